"""Associations as their requestor (PS3.8), opened for a destination or explained."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

from pynetdicom import AE, Association, build_context, evt
from pynetdicom.pdu_primitives import (
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)

from dicom_out.destination import (
    NO_ANSWER,
    NO_CONTEXT,
    NOT_REACHED,
    Destination,
    Verdict,
    rejection,
    tls_failed,
)
from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp.config import User
from scp.errors import TlsError

LOGGER = logging.getLogger(__name__)

CLOSE_S = 2.0
"""Patience with the library's threads when an association has ended, in seconds."""


class _TlsStream(ssl.SSLSocket):
    """Remembers why TLS failed: pynetdicom only logs it.

    A peer's refusal of our certificate comes with TLS 1.3 after the handshake, when we read.
    """

    failure: ssl.SSLError | None = None

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLError as error:
            self.failure = error
            raise

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        try:
            return super().read(len, buffer)
        except ssl.SSLError as error:
            self.failure = error
            raise


class _Caller(AE):
    """An AE for one association, whose socket is closed in the end.

    pynetdicom shuts a socket down before it closes it; if the peer has gone or never was there, the
    first fails and the second is left out. It also stands for its TLS context, of which pynetdicom
    asks nothing but :meth:`wrap_socket`, so as to know that socket too.
    """

    _stream: socket.socket | None = None
    tls: ssl.SSLContext | None = None

    def _create_socket(self, *args: Any) -> Any:
        created = super()._create_socket(*args)
        self._stream = created.socket
        return created

    def wrap_socket(self, stream: socket.socket, **options: Any) -> ssl.SSLSocket:
        """Begin TLS on a socket that is not connected yet."""
        assert self.tls is not None
        self.tls.sslsocket_class = _TlsStream
        wrapped = self.tls.wrap_socket(stream, **options)
        self._stream = wrapped
        return wrapped

    @property
    def tls_failure(self) -> ssl.SSLError | None:
        """Why there is no TLS with the peer."""
        return getattr(self._stream, "failure", None)

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
    tls = destination.tls
    try:
        ae.tls = tls.context() if tls is not None else None
        association = ae.associate(
            destination.host,
            destination.port,
            contexts=[build_context(*context) for context in contexts],
            ae_title=destination.ae_title,
            ext_neg=[*roles, *([_identity(destination.user)] if destination.user else [])],
            evt_handlers=[(evt.EVT_CONN_OPEN, _on_open, [opened]), *handlers],
            tls_args=(ae, tls.name or destination.host) if tls is not None else None,
        )
    except TlsError as error:
        return tls_failed(str(error))
    except OSError:  # the name can't be resolved
        return NOT_REACHED
    if association.is_established:
        return association
    ae.close()
    if ae.tls_failure is not None:
        verdict = tls_failed(_reason(ae.tls_failure))
    else:
        verdict = _why_not(association) if opened.is_set() else NOT_REACHED
    LOGGER.info("No association with %s: %s", destination.name, verdict.code)
    return verdict


def _identity(user: User) -> UserIdentityNegotiation:
    """Name and passcode (PS3.7 section D.3.3.7), as UTF-8 and without asking for an answer."""
    item = UserIdentityNegotiation()
    item.user_identity_type = 2
    item.primary_field = user.name.encode()
    item.secondary_field = user.password.get_secret_value().encode()
    return item


def _reason(failure: ssl.SSLError) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return failure.verify_message.rstrip(".")
    return (failure.reason or type(failure).__name__).lower().replace("_", " ")


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
