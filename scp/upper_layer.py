"""pynetdicom's DICOM upper layer with a streaming path for C-STORE.

State machine, ACSE and every other DIMSE service stay pynetdicom's. What differs from
:class:`pynetdicom.dul.DULServiceProvider`:

- it waits in poll() for the socket and for primitives, where the original sleeps and looks;
- on an established association it reads P-DATA-TF itself: a C-STORE data set goes from the socket
  into the spool and is answered here; all else becomes P-DATA primitives for pynetdicom;
- PDUs, command sets and other data sets have a longest length.

It overrides private methods of pynetdicom 3.0.4, which is pinned; tests/scp is the upgrade gate.
None of pynetdicom's C-STORE, PDU or DIMSE events fire for a streamed C-STORE.
"""

from __future__ import annotations

import logging
import select
import struct
from typing import TYPE_CHECKING, Any

from pynetdicom import _config
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from scp.config import ListenerConfig
from scp.contexts import is_storage_sop_class
from scp.reception import Intake, Reception, make_buffer
from scp.store_message import (
    COMMAND_FIELD,
    StoreRequest,
    has_data_set,
    parse_command_set,
    read_us,
)
from scp.transport import StoreSocket, Wakeup, WakingQueue

if TYPE_CHECKING:
    from scp.association import StoreAssociation

LOGGER = logging.getLogger(__name__)
_config.LOG_HANDLER_LEVEL = "none"  # its handlers format every PDU and log identifiers: PHI

P_DATA_TF = 0x04  # PS3.8 section 9.3.5
MAX_CONTROL_PDU_BYTES = 1 << 20  # all other PDUs: 128 contexts of 64 syntaxes each fit
WAIT_S = 0.5  # how often timers are looked at
CLOSING_QUIET_S, CLOSING_LONGEST_S = 0.1, 1.0  # for the peer to close first
MAX_WAITING_MESSAGES = 64  # requests may only overlap after negotiation (PS3.7 section D.3.3.3)
_ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 6))
"""A-ABORT by the service provider: invalid PDU parameter value (PS3.8 section 9.3.8)"""
TAKEN_FOR_GRANTED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What pynetdicom raises where a PDU or a message lacks what its kind needs, or holds nonsense."""
_PDV_HEADER = struct.Struct(">IBB")  # length, context, message control (PS3.8 9.3.5.1, E.2)
IS_COMMAND = 0x01
IS_LAST = 0x02
IS_RESPONSE = 0x8000  # of a Command Field, PS3.7 section E.1


class InvalidPduError(ValueError):
    """The peer broke the protocol; the association is aborted."""


class StoreDUL(DULServiceProvider):
    """The upper layer of one association.

    Parameters
    ----------
    assoc
        Its owner; knows the accepted contexts and the ledger's record of the association.
    intake
        Where received objects go.
    """

    assoc: StoreAssociation
    socket: StoreSocket | None

    def __init__(self, assoc: StoreAssociation, intake: Intake, config: ListenerConfig) -> None:
        super().__init__(assoc)
        self.daemon = True  # a process that ends without stop() ends
        self._run_loop_delay = 0  # this class waits in _is_transport_event
        self._intake = intake
        self._max_pdu_bytes = config.max_pdu_bytes
        self._max_message_bytes = config.max_message_bytes
        self._wakeup = Wakeup()
        self._poller: select.poll | None = None
        self.to_user_queue = WakingQueue(assoc.poke)
        self.to_provider_queue = WakingQueue(self._wakeup.set)
        self._pdv_header = memoryview(bytearray(_PDV_HEADER.size))
        self._buffer: memoryview | None = None  # made at the first C-STORE
        self._command = bytearray()
        self._message_context: int | None = None  # of the command or data set in progress
        self._data_bytes: int | None = None  # of a data set for pynetdicom; None when none is due
        self._reception: Reception | None = None
        self._is_finishing = False
        self._is_draining = False

    @property
    def is_in_message(self) -> bool:
        """Whether a message has begun and is not answered yet."""
        return self._reception is not None or self._is_finishing or bool(self._command)

    def idle_timer_expired(self) -> bool:
        """Whether the peer was silent too long; not while it waits for our disk."""
        return not self._is_finishing and super().idle_timer_expired()

    def drain(self) -> None:
        """Abort the association when no message is in progress."""
        self._is_draining = True
        self._wakeup.set()

    def close(self) -> None:
        """Give back what the thread needed; it must have ended."""
        self._wakeup.close()
        self._buffer = None  # not to wait for the garbage collector

    def kill_dul(self) -> None:
        """Stop the thread."""
        super().kill_dul()
        self._wakeup.set()

    def stop_dul(self) -> bool:
        """Stop the thread if the state machine is idle; whether it was."""
        if self.state_machine.current_state == "Sta1":
            self.kill_dul()
        return super().stop_dul()

    def run_reactor(self) -> None:
        """Run until the association is over, and leave nothing open."""
        try:
            super().run_reactor()
        except TAKEN_FOR_GRANTED as error:
            # in a PDU that could be decoded, such as an association request with even context IDs
            LOGGER.warning("invalid PDU: %s", type(error).__name__)
            if self.socket is not None:
                self.socket.send(_ABORT)
                self.socket.discard(CLOSING_QUIET_S, CLOSING_LONGEST_S)
        finally:
            if self._reception is not None:
                self._reception.drop()
                self._reception = None
            if self.socket is not None:
                self.socket.close()
            self.to_user_queue.put(None)  # who waits for an A-ASSOCIATE-RQ need not wait longer

    def _process_recv_primitive(self) -> bool:
        """Turn the next primitive into an event, unless the association is over already."""
        is_over = self.state_machine.current_state == "Sta13"
        return not is_over and super()._process_recv_primitive()

    def _is_transport_event(self) -> bool:
        """Wait; serve P-DATA until something else is due. Whether the peer sent anything."""
        if self.state_machine.current_state == "Sta13":
            assert self.socket is not None
            self.socket.discard(CLOSING_QUIET_S, CLOSING_LONGEST_S)
            self.socket.close()  # puts Evt17
            return True
        has_received = False
        while self._may_wait():
            if self._is_draining and not self.is_in_message:
                self._is_draining = False
                self.assoc.acse.send_abort(0x00)  # by the service user, PS3.8 table 9-26
                return has_received
            sock = self.socket
            if sock is None or sock.socket is None:
                break
            if not sock.has_pending:
                is_readable, is_woken = self._poll(sock)
                if is_woken or not is_readable or not self._has_arrived(sock):
                    return has_received
            if self.state_machine.current_state != "Sta6":
                break
            self._read_pdu_data()
            has_received = True
            self._idle_timer.restart()
        return has_received or not self.event_queue.empty() or super()._is_transport_event()

    def _may_wait(self) -> bool:
        return self.event_queue.empty() and not self._kill_thread

    def _poll(self, sock: StoreSocket) -> tuple[bool, bool]:
        """Wait for the peer and for our own primitives: (readable, woken)."""
        if self._poller is None:
            self._poller = select.poll()
            self._poller.register(self._wakeup, select.POLLIN)
            self._poller.register(sock.socket, select.POLLIN)
        ready = [descriptor for descriptor, _ in self._poller.poll(WAIT_S * 1000)]
        is_woken = self._wakeup.fileno() in ready
        if is_woken:
            self._wakeup.clear()
        return len(ready) > is_woken, is_woken

    def _has_arrived(self, sock: StoreSocket) -> bool:
        """Whether there is something to read; puts the event that says why never."""
        try:
            return sock.receive_ahead()
        except OSError as error:
            reason = getattr(error, "reason", None) or type(error).__name__  # of an ssl.SSLError
            LOGGER.warning("TLS with %s failed: %s", self.assoc.requestor.address, reason)
            self.event_queue.put("Evt17")
            return False

    def _read_pdu_data(self) -> None:
        """Read one PDU, or put the event that says why not."""
        sock = self.socket
        assert sock is not None
        try:
            sock.begin_pdu()
            header = sock.recv(6)
            if len(header) < 6:
                self.event_queue.put("Evt17")  # Transport connection closed
                return
            length = int.from_bytes(header[2:], "big")
            if header[0] != P_DATA_TF or self.state_machine.current_state != "Sta6":
                _check_length("PDU", length, max(MAX_CONTROL_PDU_BYTES, self._max_pdu_bytes))
                sock.unread(bytes(header))
                super()._read_pdu_data()
            else:
                _check_length("P-DATA-TF PDU", length, self._max_pdu_bytes)
                self._read_p_data(sock, length)
        except OSError as error:
            LOGGER.info("connection lost: %s", error)
            self.event_queue.put("Evt17")
        except ValueError as error:
            LOGGER.warning("invalid PDU: %s", error)
            self.event_queue.put("Evt19")  # Unrecognized or invalid PDU

    def _read_p_data(self, sock: StoreSocket, remaining: int) -> None:
        while remaining:
            if remaining < _PDV_HEADER.size:
                raise InvalidPduError("a PDV is cut off")
            sock.recv_exact(self._pdv_header)
            length, context_id, control = _PDV_HEADER.unpack(self._pdv_header)
            remaining -= 4 + length  # the length counts context and control, but not itself
            if length < 2 or remaining < 0:
                raise InvalidPduError("a PDV length doesn't fit its PDU")
            self._read_pdv(sock, length - 2, context_id, control)
            if remaining:
                sock.check_deadline()

    def _read_pdv(self, sock: StoreSocket, length: int, context_id: int, control: int) -> None:
        if self._message_context not in (None, context_id):
            raise InvalidPduError("the context changes inside a message")
        if context_id not in self.assoc.accepted:
            raise InvalidPduError("the context was not accepted")
        is_last = bool(control & IS_LAST)
        if control & IS_COMMAND:
            self._read_command(sock, length, context_id, is_last)
        elif self._reception is not None:
            self._reception.read_from(sock, length)
            if is_last:
                self._finish_store(sock)
        else:
            self._read_data(sock, length, context_id, control)

    def _read_command(self, sock: StoreSocket, length: int, context_id: int, is_last: bool) -> None:
        if self._reception is not None or self._data_bytes is not None:
            raise InvalidPduError("a command inside a data set")
        _check_length("command set", len(self._command) + length, self._max_message_bytes)
        self._message_context = context_id
        self._command += self._receive(sock, length)
        if not is_last:
            return
        encoded, self._command = bytes(self._command), bytearray()
        elements = parse_command_set(encoded)
        request = StoreRequest.from_elements(context_id, elements)
        if request is not None:
            self._begin_store(sock, request)
            return
        is_request = not (read_us(elements, COMMAND_FIELD) or 0) & IS_RESPONSE
        if is_request and is_storage_sop_class(self.assoc.accepted[context_id].abstract_syntax):
            raise InvalidPduError("another request than C-STORE for a storage class")
        if has_data_set(elements):
            self._data_bytes = 0
        else:
            self._message_context = None
        self._pass_on(context_id, IS_COMMAND | IS_LAST, encoded)

    def _read_data(self, sock: StoreSocket, length: int, context_id: int, control: int) -> None:
        if self._data_bytes is None:
            raise InvalidPduError("a data set without a command")
        self._data_bytes += length
        _check_length("data set", self._data_bytes, self._max_message_bytes)
        data = self._receive(sock, length)
        if control & IS_LAST:
            self._data_bytes = self._message_context = None
        self._pass_on(context_id, control, data)

    def _receive(self, sock: StoreSocket, length: int) -> bytes:
        data = bytearray(length)
        with memoryview(data) as view:
            sock.recv_exact(view)
        return bytes(data)

    def _pass_on(self, context_id: int, control: int, data: bytes) -> None:
        """Give a fragment to pynetdicom's DIMSE provider."""
        if self.assoc.dimse.msg_queue.qsize() > MAX_WAITING_MESSAGES:
            raise InvalidPduError("too many requests at once")
        primitive: Any = P_DATA()
        primitive.presentation_data_value_list = [[context_id, bytes((control,)) + data]]
        try:
            self.assoc.dimse.receive_primitive(primitive)
        except TAKEN_FOR_GRANTED as error:
            raise InvalidPduError(f"no usable message: {type(error).__name__}") from error

    def _begin_store(self, sock: StoreSocket, request: StoreRequest) -> None:
        if self._buffer is None:
            self._buffer = make_buffer()
        context = self.assoc.accepted[request.context_id]
        self._reception = Reception(self._intake, request, context, self.assoc.record, self._buffer)
        if not request.has_data_set:
            self._finish_store(sock)

    def _finish_store(self, sock: StoreSocket) -> None:
        reception, self._reception = self._reception, None
        assert reception is not None
        self._message_context = None
        self._is_finishing = True
        try:
            status, comment = reception.finish()
            if reception.refusal is not None:
                LOGGER.warning("C-STORE refused with %04XH: %s", status, reception.refusal.code)
            if sock.socket is None:
                raise ConnectionResetError("the socket is closed")
            sock.socket.sendall(reception.request.respond(status, comment))
        finally:
            self._idle_timer.restart()
            self._is_finishing = False


def _check_length(what: str, length: int, limit: int) -> None:
    if length > limit:
        raise InvalidPduError(f"a {what} of {length} bytes, more than {limit}")
