"""Associations as their requestor (PS3.8), opened for a destination or explained."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, Association, build_context, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from dicom_out.destination import (
    NO_ANSWER,
    NO_CONTEXT,
    NOT_REACHED,
    Destination,
    Verdict,
    rejection,
)
from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOGGER = logging.getLogger(__name__)

CLOSE_S = 2.0
"""Patience with the library's threads when an association has ended, in seconds."""


class _Caller(AE):
    """An AE for one association, whose socket is closed in the end.

    pynetdicom shuts a socket down before it closes it; if the peer has gone or never was there, the
    first fails and the second is left out.
    """

    _stream: socket.socket | None = None

    def _create_socket(self, *args: Any) -> Any:
        created = super()._create_socket(*args)
        self._stream = created.socket
        return created

    def close(self) -> None:
        """Close the socket, if it still is open."""
        if self._stream is not None:
            self._stream.close()


def open_association(
    contexts: Sequence[tuple[str, str | None]],
    destination: Destination,
    calling_ae_title: str,
    *,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[tuple[evt.EventType, Any]] = (),
) -> Association | Verdict:
    """Return an established association, or why there is none.

    Parameters
    ----------
    contexts
        Abstract and transfer syntax of each presentation context; None proposes the default ones.
    destination
        Whom to call.
    calling_ae_title
        How to introduce ourselves, unless the destination says otherwise.
    roles
        To negotiate, where they are not the usual ones.
    handlers
        Of what the destination sends to us.
    """
    ae = _Caller(ae_title=destination.calling_ae_title or calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = destination.timeout_s
    ae.dimse_timeout = ae.network_timeout = destination.timeout_s
    opened = threading.Event()
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            contexts=[build_context(*context) for context in contexts],
            ae_title=destination.ae_title,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_open, [opened]), *handlers],
        )
    except OSError:  # the name can't be resolved
        return NOT_REACHED
    if association.is_established:
        return association
    ae.close()
    verdict = _why_not(association) if opened.is_set() else NOT_REACHED
    LOGGER.info("No association with %s: %s", destination.name, verdict.code)
    return verdict


def _why_not(association: Association) -> Verdict:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return rejection(answer.result, answer.reason_str)
    if answer is not None:  # accepted, but not one presentation context
        return NO_CONTEXT
    return NO_ANSWER


def _on_open(event: evt.Event, opened: threading.Event) -> None:
    """Switch Nagle's algorithm off: dcmtk's delayed acknowledgement costs 40 ms per object."""
    opened.set()
    stream = event.assoc.dul.socket.socket
    if stream is not None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close_association(association: Association) -> None:
    """Release an association if it still stands, and close its socket."""
    if association.is_established:
        association.release()
    association.join(CLOSE_S)
    association.ae.close()
