"""An association that stores by streaming; see :mod:`scp.upper_layer`."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext

from scp.config import ListenerConfig
from scp.contexts import supported_contexts
from scp.ledger_writer import AssociationRecord
from scp.transport import StoreSocket, WakingQueue
from scp.upper_layer import TAKEN_FOR_GRANTED, WAIT_S, StoreDUL

if TYPE_CHECKING:
    from scp.server import StoreServer

LOGGER = logging.getLogger(__name__)
NAME_AND_PASSCODE = 2  # User-Identity-Type, PS3.7 table D.3-14


class StoreACSE(ACSE):
    """pynetdicom's association control behind our own gate.

    A method and not a handler of EVT_REQUESTED: pynetdicom logs what a handler raises and goes on,
    and a gate must not open when it breaks.
    """

    assoc: StoreAssociation

    def _negotiate_as_acceptor(self) -> None:
        request = self.requestor.primitive
        rejection = self.assoc.server.admit(
            self.assoc, request.calling_ae_title, request.called_ae_title, self._identity()
        )
        if rejection is not None:
            self.assoc.server.intake.counts.reject(
                _printable(request.calling_ae_title), self.requestor.address, rejection.reason
            )
            LOGGER.warning(
                "association of %s at %s rejected: %s",
                _printable(request.calling_ae_title),
                self.requestor.address,
                rejection.reason,
            )
            self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            evt.trigger(self.assoc, evt.EVT_REJECTED, {})
            self.assoc.kill()
            return
        self.acceptor.supported_contexts = supported_contexts(
            request.presentation_context_definition_list, self.assoc.own_contexts
        )
        self.assoc.note_request(request.calling_ae_title, request.called_ae_title)
        try:
            super()._negotiate_as_acceptor()
        except TAKEN_FOR_GRANTED as error:
            LOGGER.warning("association request can't be answered: %s", type(error).__name__)
            self.send_abort(0x02)  # by the service provider, PS3.8 table 9-26
            self.assoc.kill()

    def _identity(self) -> tuple[bytes, bytes] | None:
        """Return name and passcode of the request, if it brings both (PS3.7 table D.3-14)."""
        item = self.requestor.user_identity
        if item is None or item.user_identity_type != NAME_AND_PASSCODE:
            return None
        return item.primary_field or b"", item.secondary_field or b""

    def _check_user_identity(self) -> tuple[bool, UserIdentityNegotiation | None]:
        """Answer an identity that our gate has let in; what is not asked for is not answered."""
        item = self.requestor.user_identity
        if not self.assoc.server.asks_for_users or not item.positive_response_requested:
            return True, None
        answer = UserIdentityNegotiation()
        answer.server_response = b""  # of a name with passcode it is empty (PS3.7 D.3.3.7.2)
        return True, answer


class StoreAssociation(Association):
    """pynetdicom's association with :class:`StoreDUL`, waiting for events instead of sleeping.

    Parameters
    ----------
    server
        That accepted the connection.
    client_socket
        The connection.
    """

    dul: StoreDUL
    is_established: bool
    is_released: bool

    def __init__(self, ae: AE, server: StoreServer, client_socket: socket.socket) -> None:
        super().__init__(ae, "acceptor")
        config: ListenerConfig = server.config
        self._server = server  # pynetdicom's name for it
        self._event = threading.Event()
        self._is_transport_lost = False
        self.own_contexts: Sequence[PresentationContext] = server.contexts
        self.record: AssociationRecord
        self.acse = StoreACSE(self)
        self.dul = StoreDUL(self, server.intake, config)
        self.dimse.msg_queue = WakingQueue(self.poke)
        self.acse_timeout = config.artim_timeout_s  # also sets the ARTIM timer of the new DUL
        self.network_timeout = config.idle_timeout_s  # also sets its idle timer
        self.set_socket(StoreSocket(self, client_socket, config.stall_timeout_s))
        self.bind(evt.EVT_FSM_TRANSITION, self._note_transition)

    @property
    def accepted(self) -> dict[int, PresentationContext]:
        """The accepted contexts by their ID."""
        return self._accepted_cx

    @property
    def server(self) -> StoreServer:
        """The server that accepted the connection."""
        return self._server

    def poke(self) -> None:
        """Let the reactor look whether something is to do."""
        self._event.set()

    def kill(self) -> None:
        """Stop the reactor."""
        self.poke()
        super().kill()

    def note_request(self, calling_ae_title: str, called_ae_title: str) -> None:
        """Remember who asked, for the ledger."""
        self.record = AssociationRecord(
            self._server.name,
            _printable(calling_ae_title),
            _printable(called_ae_title),
            self.requestor.address,
            time.time(),
        )

    def run_reactor(self) -> None:
        """Run the association to its end, and have that written down."""
        try:
            super().run_reactor()
        finally:
            if self.dul.is_alive():
                self.dul.kill_dul()
                self.shut_socket()
                self.dul.join()
            self.dul.close()
            if hasattr(self, "record"):
                self._server.intake.commits.end_association(self.record, self._outcome)
                self._server.intake.counts.end(self._outcome)
            self._server.forget(self)

    def drain(self) -> None:
        """End the association; a message in progress is answered first."""
        if self.is_established:
            self.dul.drain()
        else:
            self.shut_socket()

    def shut_socket(self) -> None:
        """Cut the connection, so that whoever reads from it or writes to it returns."""
        sock = self.dul.socket.socket if self.dul.socket is not None else None
        if sock is not None:
            try:
                # Not an SSLSocket's own: that drops TLS first, and whoever reads in that moment
                # would take ciphertext for what the peer said.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                LOGGER.debug("the connection was closed already")

    @property
    def _outcome(self) -> str:
        if self.is_released:
            return "released"
        return "lost" if self._is_transport_lost else "aborted"

    def _note_transition(self, event: Any) -> None:
        if event.action == "AA-4":  # transport connection closed (PS3.8 table 9-9)
            self._is_transport_lost = True

    def _run_reactor(self) -> None:
        """Pynetdicom's loop; waits for an event where the original sleeps a millisecond."""
        while not self._kill:
            # paused while waiting: send_*() of other threads may then take messages off the queue
            self._is_paused = True
            self._event.wait(WAIT_S)
            self._event.clear()
            self._reactor_checkpoint.wait()
            self._is_paused = False
            context_id, message = self.dimse.get_msg(block=False)
            if isinstance(message, C_STORE):  # no request: those are streamed
                LOGGER.warning("a C-STORE response to nothing")
                self.abort()
            elif message is not None:
                self._event.set()  # there may be another
                self._serve_request(message, context_id)
            if self._is_over():
                self.kill()
                return

    def _is_over(self) -> bool:
        """Answer a release, note an abort, end an idle association."""
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            evt.trigger(self, evt.EVT_RELEASED, {})
            return True
        if self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
            evt.trigger(self, evt.EVT_ABORTED, {})
            return True
        if not self.dul.is_alive():
            return True
        if self.dul.idle_timer_expired():
            LOGGER.info("association of %s was idle too long", self.record.calling_ae_title)
            self.abort()
            return True
        return False


def _printable(ae_title: str) -> str:
    """Make an AE title safe for logs, files and the ledger."""
    return "".join(c if " " <= c <= "~" else "?" for c in ae_title.strip(" "))[:16]
