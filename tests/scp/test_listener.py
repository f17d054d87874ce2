"""The listener with well-behaved senders, and with those that it must refuse."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID, generate_uid
from pynetdicom import AE, build_context
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.association import Association as Sender
from pynetdicom.presentation import AllStoragePresentationContexts
from sqlalchemy import Engine, update

from ledger.database import transaction
from ledger.tables import Association
from scp.config import AllowedPeer
from scp.errors import ListenerError
from scp.listener import Listener
from tests.peers.process import wait_until
from tests.scp.conftest import Inbox, configured
from tests.scp.raw_peer import (
    CT_IMAGE_STORAGE,
    EXPLICIT_LITTLE,
    RELEASE,
    RELEASE_RP,
    RawPeer,
    associate_rq,
    store_message,
)

PRIVATE_CLASS = "1.3.6.1.4.1.99999.1.7"
PRIVATE_SYNTAX = "1.3.6.1.4.1.99999.2.7"
CT = Path(str(get_testdata_file("CT_small.dcm")))


@contextmanager
def sending(
    listener: Listener, *contexts: tuple[str, str], called: str = "PACSIGHT"
) -> Iterator[Sender]:
    entity = AE("SENDER")
    for abstract, syntax in contexts or ((CT_IMAGE_STORAGE, EXPLICIT_LITTLE),):
        entity.add_requested_context(abstract, syntax)
    association = entity.associate("127.0.0.1", listener.port, ae_title=called)
    yield association
    if association.is_established:
        association.release()


def dcmtk_address(listener: Listener) -> tuple[str, ...]:
    return ("-aec", "PACSIGHT", "127.0.0.1", str(listener.port))


@pytest.mark.peer
def test_echo_of_dcmtk_succeeds(listener: Listener, dcmtk: Callable[..., str]) -> None:
    assert "Success" in dcmtk("echoscu", "-v", *dcmtk_address(listener))


@pytest.mark.peer
def test_object_of_dcmtk_is_in_ledger_and_spool(
    listener: Listener, inbox: Inbox, dcmtk: Callable[..., str]
) -> None:
    dcmtk("storescu", "-aet", "MODALITY", *dcmtk_address(listener), CT)
    (row,) = inbox.rows()
    source = dcmread(CT)
    assert row.sop_instance_uid == source.SOPInstanceUID
    assert row.sop_class_uid == source.SOPClassUID
    assert row.transfer_syntax_uid == EXPLICIT_LITTLE
    assert row.state == "received"
    stored = dcmread(io.BytesIO(inbox.file(row)))
    assert stored.file_meta.MediaStorageSOPInstanceUID == source.SOPInstanceUID
    assert stored.file_meta.SourceApplicationEntityTitle == "MODALITY"
    assert stored.PixelData == source.PixelData
    assert stored.PatientID == source.PatientID


def test_association_row_tells_who_and_how_it_ended(listener: Listener, inbox: Inbox) -> None:
    with sending(listener) as sender:
        sender.send_c_store(CT)
        (row,) = inbox.associations()
        assert row.closed_at is None
        assert row.outcome is None
    row = wait_until(lambda: next((a for a in inbox.associations() if a.outcome), None), "the end")
    assert (row.listener, row.outcome) == ("test", "released")
    assert (row.calling_ae_title, row.called_ae_title) == ("SENDER", "PACSIGHT")
    assert row.peer_address == "127.0.0.1"
    assert row.opened_at <= inbox.rows()[0].received_at <= row.closed_at


def test_association_without_objects_leaves_no_row(listener: Listener, inbox: Inbox) -> None:
    with sending(listener) as sender:
        assert sender.is_established
    assert inbox.associations() == []


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(lambda peer: peer.abort(), "aborted"), (lambda peer: peer.release(), "released")],
)
def test_outcome_of_the_association(
    listener: Listener, inbox: Inbox, end: Callable[[Sender], None], outcome: str
) -> None:
    with sending(listener) as sender:
        sender.send_c_store(CT)
        end(sender)
    wait_until(lambda: inbox.associations()[0].outcome == outcome, outcome)


def test_connection_that_vanishes_is_lost(listener: Listener, inbox: Inbox) -> None:
    with RawPeer(listener.port).associate() as peer:
        peer.send(store_message(b"x" * 100))
        assert peer.read_status() == 0
    wait_until(lambda: inbox.associations()[0].outcome == "lost", "the end")


def test_rows_left_open_by_a_dead_listener_are_lost(
    sqlite_engine: Engine, inbox: Inbox, start_listener: Callable[..., Listener]
) -> None:
    with sending(start_listener()) as sender:
        sender.send_c_store(CT)
    wait_until(lambda: inbox.associations()[0].outcome, "the end")
    with transaction(sqlite_engine) as session:
        session.execute(update(Association).values(closed_at=None, outcome=None))
        session.add(
            Association(
                listener="other",
                calling_ae_title="A",
                called_ae_title="B",
                peer_address="::1",
                opened_at=1.0,
            )
        )
    start_listener()
    mine, other = inbox.associations()
    assert mine.outcome == "lost"
    assert mine.closed_at is not None
    assert other.outcome is None


def test_every_storage_class_and_transfer_syntax_is_accepted(listener: Listener) -> None:
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    classes += [PRIVATE_CLASS, "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.9999"]
    syntaxes = [str(syntax) for syntax in ALL_TRANSFER_SYNTAXES] + [PRIVATE_SYNTAX]
    pairs = [(uid, EXPLICIT_LITTLE) for uid in classes]
    pairs += [(CT_IMAGE_STORAGE, syntax) for syntax in syntaxes]
    for start in range(0, len(pairs), 128):  # as many contexts as an association can have
        part = pairs[start : start + 128]
        association = AE("SENDER").associate(
            "127.0.0.1",
            listener.port,
            contexts=[build_context(*pair) for pair in part],
            ae_title="PACSIGHT",
        )
        assert association.is_established
        assert [c.abstract_syntax.name for c in association.rejected_contexts] == []
        association.release()


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Find
        "1.2.840.10008.5.1.4.34.6.1",  # Unified Procedure Step Push
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.2.1",  # no SOP class at all
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
    ],
)
def test_other_services_are_not_accepted_as_storage(listener: Listener, uid: str) -> None:
    with sending(listener, (uid, EXPLICIT_LITTLE), (CT_IMAGE_STORAGE, EXPLICIT_LITTLE)) as sender:
        assert [c.abstract_syntax for c in sender.accepted_contexts] == [CT_IMAGE_STORAGE]


def test_first_proposed_transfer_syntax_is_chosen(listener: Listener) -> None:
    deflated, jpeg = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
    entity = AE("SENDER")
    entity.add_requested_context(CT_IMAGE_STORAGE, [jpeg, EXPLICIT_LITTLE])
    entity.add_requested_context(PRIVATE_CLASS, [deflated, PRIVATE_SYNTAX])
    association = entity.associate("127.0.0.1", listener.port, ae_title="PACSIGHT")
    chosen = {str(c.abstract_syntax): c.transfer_syntax for c in association.accepted_contexts}
    association.release()
    assert chosen == {CT_IMAGE_STORAGE: [UID(jpeg)], PRIVATE_CLASS: [UID(PRIVATE_SYNTAX)]}


def test_private_class_in_private_syntax_is_stored_as_received(
    listener: Listener, inbox: Inbox
) -> None:
    data = bytes(range(256)) * 300
    with RawPeer(listener.port).associate((PRIVATE_CLASS, [PRIVATE_SYNTAX])) as peer:
        peer.send(store_message(data, class_uid=PRIVATE_CLASS, instance_uid="1.2.9"))
        assert peer.read_status() == 0
    (row,) = inbox.rows()
    assert (row.sop_class_uid, row.transfer_syntax_uid) == (PRIVATE_CLASS, PRIVATE_SYNTAX)
    assert inbox.data_set(row) == data


def test_many_objects_over_many_associations_keep_their_bytes(
    listener: Listener, inbox: Inbox
) -> None:
    sent = {}
    for n in range(6):
        with RawPeer(listener.port).associate() as peer:
            for m in range(5):
                uid = f"1.2.{n}.{m}"
                data = hashlib.sha256(uid.encode()).digest() * (n * 5000 + m + 1)
                peer.send(store_message(data, piece=100_000, instance_uid=uid))
                assert peer.read_status() == 0
                sent[uid] = data
    assert {row.sop_instance_uid: inbox.data_set(row) for row in inbox.rows()} == sent


def test_full_segment_is_followed_by_a_new_one(
    start_listener: Callable[..., Listener], inbox: Inbox
) -> None:
    listener = start_listener(segment_bytes=1 << 16)
    with RawPeer(listener.port).associate() as peer:
        for n in range(5):
            peer.send(store_message(bytes([n]) * 40_000, instance_uid=f"1.2.{n}"))
            assert peer.read_status() == 0
    rows = inbox.rows()
    assert len({row.segment for row in rows}) == 3
    assert [inbox.data_set(row)[:1] for row in rows] == [bytes([n]) for n in range(5)]


def test_same_object_twice_gives_two_rows(listener: Listener, inbox: Inbox) -> None:
    with sending(listener) as sender:
        for _ in range(2):
            assert sender.send_c_store(CT).Status == 0
    one, two = inbox.rows()
    assert inbox.data_set(one) == inbox.data_set(two)
    assert one.offset != two.offset


# -- who may not


def rejection(listener: Listener, **titles: str) -> tuple[int, ...]:
    """Result, source and reason of the A-ASSOCIATE-RJ."""
    with RawPeer(listener.port) as peer:
        peer.send(associate_rq([(CT_IMAGE_STORAGE, [EXPLICIT_LITTLE])], **titles))
        answer = peer.read_pdu()
        assert answer is not None
        assert answer[0] == 3, answer
        assert peer.read_pdu() is None
        return tuple(answer[1][1:])


def test_wrong_called_ae_title_is_rejected(listener: Listener) -> None:
    assert rejection(listener, called="ELSEWHERE") == (1, 1, 7)


def test_any_called_ae_title_can_be_accepted(start_listener: Callable[..., Listener]) -> None:
    with sending(start_listener(accept_any_called_ae_title=True), called="ELSEWHERE") as sender:
        assert sender.is_established


def test_unknown_calling_ae_title_is_rejected(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(allowed_peers=(AllowedPeer(ae_title="CT1", address="127.0.0.1"),))
    assert rejection(listener, calling="CT2") == (1, 1, 3)
    with RawPeer(listener.port) as peer:
        peer.associate(calling="CT1")


def test_address_outside_the_allow_list_is_rejected(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener(allowed_peers=(AllowedPeer(address="10.0.0.0/8"),))
    assert rejection(listener) == (1, 1, 3)


def test_without_allowed_peers_nobody_gets_in(start_listener: Callable[..., Listener]) -> None:
    assert rejection(start_listener(allowed_peers=())) == (1, 1, 3)


def test_one_association_too_many_is_rejected_for_now(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener(max_associations=2)
    with sending(listener) as first, sending(listener) as second:
        assert first.is_established
        assert second.is_established
        assert rejection(listener) == (2, 3, 2)
        first.release()
        wait_until(lambda: _is_accepted(listener), "a free place")


def _is_accepted(listener: Listener) -> bool:
    with sending(listener) as sender:
        return bool(sender.is_established)


def test_connections_without_request_are_bounded(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener(max_associations=1, artim_timeout_s=30)
    peers = [RawPeer(listener.port) for _ in range(18)]
    with RawPeer(listener.port) as one_too_many:
        assert one_too_many.read_pdu() is None
    for peer in peers:
        peer.close()


def test_descriptors_beyond_1024_work(listener: Listener, inbox: Inbox) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with RawPeer(listener.port).associate() as peer:
            peer.send(store_message(b"z" * 5000) + RELEASE)
            assert peer.read_status() == 0
            assert peer.read_pdu() == (RELEASE_RP, bytes(4))
        wait_until(lambda: inbox.associations()[0].outcome == "released", "the end")
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- starting and stopping


def test_port_in_use_is_a_clear_error(
    listener: Listener, sqlite_engine: Engine, spool: Path
) -> None:
    with pytest.raises(ListenerError, match=f"port {listener.port} can't be listened on"):
        Listener(configured(port=listener.port), spool, sqlite_engine, "second").start()


def test_restart_opens_new_segments(start_listener: Callable[..., Listener], inbox: Inbox) -> None:
    for _ in range(2):
        listener = start_listener()
        with sending(listener) as sender:
            assert sender.send_c_store(CT).Status == 0
        listener.stop()
    one, two = inbox.rows()
    assert one.segment != two.segment
    assert inbox.data_set(one) == inbox.data_set(two)


def test_stop_answers_the_message_in_progress_and_aborts(listener: Listener, inbox: Inbox) -> None:
    message = store_message(b"y" * 50_000)
    with RawPeer(listener.port).associate() as busy, RawPeer(listener.port).associate() as idle:
        busy.send(message[:30_000])
        stopper = threading.Thread(target=listener.stop)
        stopper.start()
        answer = idle.read_pdu()
        assert answer is not None
        assert answer[0] == 7
        busy.send(message[30_000:])
        assert busy.read_status() == 0
        answer = busy.read_pdu()
        assert answer is not None
        assert answer[0] == 7
        stopper.join()
    assert inbox.data_set(inbox.rows()[0]) == b"y" * 50_000
    assert inbox.associations()[0].outcome == "aborted"


def test_stop_of_an_unused_listener_leaves_no_segment(listener: Listener, spool: Path) -> None:
    listener.stop()
    listener.stop()
    assert [path.name for path in spool.iterdir()] == ["identity"]  # the name of the spool


def test_instance_uid_of_pydicom_survives(listener: Listener, inbox: Inbox) -> None:
    ds = Dataset()
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = generate_uid()
    ds.PatientName = "Grüße"
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    with sending(listener) as sender:
        assert sender.send_c_store(ds).Status == 0
    assert inbox.rows()[0].sop_instance_uid == ds.SOPInstanceUID
