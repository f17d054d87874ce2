"""Odd, broken and stalling senders, byte by byte."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable

import pytest

from scp.listener import Listener
from tests.peers.process import wait_until
from tests.scp.conftest import Inbox
from tests.scp.raw_peer import (
    A_ABORT,
    ABORT,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT_LITTLE,
    LAST,
    RELEASE,
    RELEASE_RP,
    VERIFICATION,
    RawPeer,
    associate_rq,
    command,
    echo_rq,
    element,
    pdu,
    pdv,
    store_message,
    store_rq,
    us,
)

BODY = bytes(range(256)) * 120


def assert_still_serves(listener: Listener, inbox: Inbox) -> None:
    """A new association stores and echoes."""
    before = len(inbox.rows())
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(BODY))
        assert peer.read_status() == 0
        peer.send(pdu(pdv(COMMAND | LAST, echo_rq(), 3)))
        assert peer.read_status() == 0
    assert len(inbox.rows()) == before + 1


def test_odd_fragments_are_put_together(listener: Listener, inbox: Inbox) -> None:
    request = store_rq()
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND, request[:10]), pdv(COMMAND, request[10:11])))
        peer.send(pdu(pdv(COMMAND | LAST, request[11:]), pdv(DATA, BODY[:1]), pdv(DATA, b"")))
        for start in range(1, 20_000, 777):
            peer.send(pdu(pdv(DATA, BODY[start : start + 777])))
        peer.send(pdu(pdv(LAST, BODY[1 + 777 * 26 :])))
        assert peer.read_status() == 0
    assert inbox.data_set(inbox.rows()[0]) == BODY


def test_stores_sent_without_waiting_are_all_answered(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(BODY) * 3 + RELEASE)
        assert [peer.read_status() for _ in range(3)] == [0, 0, 0]
        assert peer.read_pdu() == (RELEASE_RP, bytes(4))
    assert [inbox.data_set(row) for row in inbox.rows()] == [BODY] * 3


def test_empty_data_set_is_stored(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(b""))
        assert peer.read_status() == 0
    assert inbox.data_set(inbox.rows()[0]) == b""


def test_response_names_the_request(listener: Listener) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, store_rq("1.2.77", message_id=4711)), pdv(LAST, BODY)))
        status, elements = peer.read_response()
    assert status == 0
    assert elements[0x100] == b"\x01\x80"
    assert elements[0x120] == struct.pack("<H", 4711)
    assert elements[0x002].rstrip(b"\0") == CT_IMAGE_STORAGE.encode()
    assert elements[0x1000] == b"1.2.77"
    assert 0x902 not in elements


@pytest.mark.parametrize("end", [b"", ABORT, RELEASE], ids=["cut", "abort", "release"])
def test_object_that_does_not_end_leaves_no_row(
    listener: Listener, inbox: Inbox, end: bytes
) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(BODY, instance_uid="1.2.1"))
        assert peer.read_status() == 0
        peer.send(store_message(BODY, instance_uid="1.2.2", piece=700)[:-1000][:20_000])
        peer.send(end)
    wait_until(lambda: inbox.associations()[0].outcome, "the end")
    assert [row.sop_instance_uid for row in inbox.rows()] == ["1.2.1"]
    assert_still_serves(listener, inbox)
    assert [inbox.data_set(row) for row in inbox.rows()] == [BODY, BODY]


GARBAGE = {
    "unknown PDU": bytes((9, 0, 0, 0, 0, 4, 1, 2, 3, 4)),
    "PDU too long": struct.pack(">BBI", 4, 0, 0xFFFFFFFF),
    "control PDU too long": struct.pack(">BBI", 5, 0, 0xFFFFFFF0),
    "short PDV": struct.pack(">BBI", 4, 0, 4) + bytes((0, 0, 0, 1)),
    "PDV longer than its PDU": struct.pack(">BBI", 4, 0, 8) + struct.pack(">IBBH", 99, 1, 3, 0),
    "PDV without context": struct.pack(">BBI", 4, 0, 6) + struct.pack(">IBB", 0, 1, 3),
    "garbage command": pdu(pdv(COMMAND | LAST, b"\xff" * 40)),
    "empty command": pdu(pdv(COMMAND | LAST, b"")),
    "command of another group": pdu(pdv(COMMAND | LAST, struct.pack("<HHI", 8, 8, 0))),
    "unknown command": pdu(pdv(COMMAND | LAST, command(us(0x100, 0x7777), us(0x800, 0x101)), 3)),
    "data without command": pdu(pdv(LAST, BODY)),
    "context never negotiated": pdu(pdv(COMMAND | LAST, store_rq(), 99)),
    "C-ECHO for a storage class": pdu(pdv(COMMAND | LAST, echo_rq(), 1)),
    "context changes inside": pdu(pdv(COMMAND | LAST, store_rq()), pdv(DATA, BODY, 3)),
    "command inside a data set": pdu(
        pdv(COMMAND | LAST, store_rq()), pdv(DATA, BODY), pdv(COMMAND | LAST, store_rq())
    ),
    "no Message ID": pdu(
        pdv(COMMAND | LAST, command(element(2, b"1.2"), us(0x100, 1), us(0x800, 0)))
    ),
    "A-ASSOCIATE-RQ again": struct.pack(">BBI", 1, 0, 4) + bytes(4),
}


@pytest.mark.parametrize("bytes_sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_protocol_error_aborts_this_association_only(
    listener: Listener, inbox: Inbox, bytes_sent: bytes
) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(bytes_sent)
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT
    assert inbox.rows() == []
    assert_still_serves(listener, inbox)


def test_sender_in_full_flow_learns_of_the_abort(listener: Listener) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(LAST, BODY)) + bytes(8 << 20))  # no reset while it still sends
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT


def test_garbage_instead_of_a_request_is_aborted(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port) as peer:
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        answer = peer.read_pdu()
        assert answer is None or answer[0] == A_ABORT
    assert_still_serves(listener, inbox)


def test_command_set_has_a_longest_length(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(max_message_bytes=1024)
    with RawPeer(listener.port).associate() as peer:
        for _ in range(3):
            peer.send(pdu(pdv(COMMAND, bytes(400), 3)))
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT


def test_data_set_of_other_services_has_a_longest_length(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener(max_message_bytes=4096)
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, echo_rq(data_set_type=0), 3)))
        for _ in range(5):
            peer.send(pdu(pdv(DATA, bytes(1000), 3)))
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT


# -- refused with a status; the association lives on


REFUSED = {
    "no instance UID": (0xC000, store_rq(instance_uid="")),
    "no valid instance UID": (0xC000, store_rq(instance_uid="1.2.x")),
    "instance UID too long": (0xC000, store_rq(instance_uid="1." + "2" * 64)),
    "no class UID": (0xC000, store_rq(class_uid="")),
    "class of another context": (0x0122, store_rq(class_uid="1.2.840.10008.5.1.4.1.1.4")),
}


@pytest.mark.parametrize(("status", "request_bytes"), REFUSED.values(), ids=REFUSED.keys())
def test_unusable_request_is_refused_and_the_next_object_stored(
    listener: Listener, inbox: Inbox, status: int, request_bytes: bytes
) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, request_bytes)))
        for _ in range(20):
            peer.send(pdu(pdv(DATA, BODY)))
        peer.send(pdu(pdv(LAST, BODY)))
        answered, elements = peer.read_response()
        assert answered == status
        assert 0 < len(elements[0x902]) <= 64
        peer.send(store_message(BODY))
        assert peer.read_status() == 0
    assert len(inbox.rows()) == 1


def test_store_on_the_verification_context_is_refused(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(BODY, context=3, class_uid=VERIFICATION))
        assert peer.read_status() == 0x0122
    assert inbox.rows() == []


def test_store_without_data_set_is_refused_at_once(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, store_rq(data_set_type=0x0101))))
        assert peer.read_status() == 0xC000
        peer.send(store_message(BODY))
        assert peer.read_status() == 0
    assert len(inbox.rows()) == 1


# -- time


def ends_after(peer: RawPeer) -> float:
    """Seconds until the listener ends the connection."""
    start = time.monotonic()
    while peer.read_pdu() is not None:
        pass
    return time.monotonic() - start


def test_idle_association_is_aborted(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(idle_timeout_s=0.6)
    with RawPeer(listener.port).associate() as peer:
        assert 0.4 < ends_after(peer) < 3


def test_idle_time_counts_from_the_last_message(
    start_listener: Callable[..., Listener], inbox: Inbox
) -> None:
    listener = start_listener(idle_timeout_s=1.0)
    with RawPeer(listener.port).associate() as peer:
        message = store_message(BODY, piece=5000)
        for start in range(0, len(message), 5012):  # 7 pieces in 1.75 s: slow, but not idle
            peer.send(message[start : start + 5012])
            time.sleep(0.25)
        assert peer.read_status() == 0
    assert len(inbox.rows()) == 1


@pytest.mark.parametrize("sent", [3, 200, 20_000], ids=["header", "command", "data set"])
def test_pdu_that_stalls_ends_the_association(
    start_listener: Callable[..., Listener], inbox: Inbox, sent: int
) -> None:
    listener = start_listener(stall_timeout_s=0.6)
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(BODY, piece=30_000)[:sent])
        assert 0.4 < ends_after(peer) < 2
    assert inbox.rows() == []


def test_peer_that_drips_bytes_ends_too(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(stall_timeout_s=0.6)
    with RawPeer(listener.port).associate() as peer:
        message = store_message(BODY)
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for n in range(100):
                peer.send(message[n : n + 1])
                time.sleep(0.05)
        assert time.monotonic() - start < 3


def test_connection_without_request_is_closed(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(artim_timeout_s=0.6)
    with RawPeer(listener.port) as peer:
        assert 0.4 < ends_after(peer) < 3


def test_flood_of_requests_is_cut(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        with contextlib.suppress(OSError):
            peer.send(pdu(pdv(COMMAND | LAST, echo_rq(), 3)) * 20_000)
        kinds = []
        while (answer := peer.read_pdu()) is not None:
            kinds.append(answer[0])
        assert kinds[-1] == A_ABORT
    assert_still_serves(listener, inbox)


@pytest.mark.parametrize("kind", ["even context ID", "no transfer syntax"])
def test_request_that_makes_no_sense_is_aborted(
    listener: Listener, inbox: Inbox, kind: str
) -> None:
    request = associate_rq([(VERIFICATION, [EXPLICIT_LITTLE])])
    if kind == "even context ID":  # PS3.8 section 9.3.2.2
        request = request.replace(b"\1\0\0\0\x30\0", b"\2\0\0\0\x30\0")
    else:
        request = associate_rq([(VERIFICATION, [])])
    with RawPeer(listener.port) as peer:
        peer.send(request)
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT
    assert_still_serves(listener, inbox)


INCOMPLETE = {
    "no Command Data Set Type": command(element(2, VERIFICATION.encode()), us(0x100, 0x30)),
    "no known command": command(us(0x100, 0x7777), us(0x800, 0x101)),
    "two commands": command(us(0x100, 0x30), us(0x100, 1), us(0x110, 1), us(0x800, 0x101)),
    "a response to nothing": command(us(0x100, 0x8001), us(0x120, 1), us(0x800, 0x101)),
}


@pytest.mark.parametrize("request_bytes", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_command_set_that_lacks_what_it_needs_is_aborted(
    listener: Listener, inbox: Inbox, request_bytes: bytes
) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, request_bytes, 3)))
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == A_ABORT
    assert_still_serves(listener, inbox)
