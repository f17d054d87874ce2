"""What the streaming path must not break: pynetdicom's other services on the same association."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    MRImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)
from sqlalchemy import Engine

from scp.group_commit import GroupCommit
from scp.reception import Intake
from scp.server import StoreServer
from scp.spool import Spool
from tests.peers.process import wait_until
from tests.scp.conftest import Inbox, configured

CT = Path(str(get_testdata_file("CT_small.dcm")))
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"  # well-known, PS3.4 section J.3.5
FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
EXPLICIT = "1.2.840.10008.1.2.1"


class Services:
    """Handlers of a query, a retrieve and a storage commitment SCP."""

    def __init__(self) -> None:
        self.reported: list[int] = []
        self.threads: list[threading.Thread] = []
        self.may_report = threading.Event()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for number in range(200):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            answer = Dataset()
            answer.QueryRetrieveLevel = "STUDY"
            answer.PatientID = str(number)
            yield 0xFF00, answer
            event.assoc.dul._wakeup.set()  # spurious wake-ups must not hurt

    def get(self, event: Any) -> Iterator[Any]:
        yield 2
        for _ in range(2):
            yield 0xFF00, dcmread(CT)

    def commit(self, event: Any) -> tuple[int, None]:
        def report() -> None:
            self.may_report.wait()
            answer = Dataset()
            answer.TransactionUID = event.action_information.TransactionUID
            status, _ = event.assoc.send_n_event_report(
                answer, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE
            )
            self.reported.append(status.Status)

        self.threads.append(threading.Thread(target=report))
        self.threads[-1].start()
        return 0, None


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def port(sqlite_engine: Engine, spool: Path, services: Services) -> Iterator[int]:
    """A server with all these services."""
    writable = Spool(spool, segment_bytes=1 << 28, reserve_bytes=0)
    commits = GroupCommit(sqlite_engine, timeout_s=5)
    commits.start()
    both = build_context(CTImageStorage, EXPLICIT)
    both.scu_role = both.scp_role = True
    contexts = [both, *map(build_context, (Verification, FIND, GET, StorageCommitmentPushModel))]
    server = StoreServer(
        configured(),
        Intake(writable, commits),
        "test",
        contexts,
        [
            (evt.EVT_C_FIND, services.find),
            (evt.EVT_C_GET, services.get),
            (evt.EVT_N_ACTION, services.commit),
        ],
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.end_associations(2)
    commits.stop()
    writable.close()


@pytest.fixture
def sender(port: int) -> Iterator[Any]:
    """An association of a peer that also takes sub-operations and reports."""
    entity = AE("SENDER")
    for uid in (CTImageStorage, MRImageStorage):
        entity.add_requested_context(uid, EXPLICIT)
    for uid in (Verification, FIND, GET, StorageCommitmentPushModel):
        entity.add_requested_context(uid)
    taken: list[str] = []

    def take(event: Any) -> int:
        taken.append("object")
        return 0

    def note(event: Any) -> tuple[int, None]:
        taken.append("report")
        return 0, None

    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title="PACSIGHT",
        ext_neg=[build_role(CTImageStorage, scp_role=True, scu_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, take), (evt.EVT_N_EVENT_REPORT, note)],
    )
    assert association.is_established
    association.taken = taken
    yield association
    association.release()
    assert association.is_released


def store(sender: Any) -> int:
    return int(sender.send_c_store(CT).Status)


def query() -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientID = ""
    return ds


def test_echo_between_stores(sender: Any, inbox: Inbox) -> None:
    for _ in range(3):
        assert sender.send_c_echo().Status == 0
        assert store(sender) == 0
    assert len(inbox.rows()) == 3


def test_two_contexts_on_one_association(sender: Any, inbox: Inbox) -> None:
    other = dcmread(CT)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = MRImageStorage
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    assert store(sender) == 0
    assert sender.send_c_store(other).Status == 0
    assert [row.sop_class_uid for row in inbox.rows()] == [CTImageStorage, MRImageStorage]


def test_find_gives_all_answers(sender: Any) -> None:
    store(sender)
    answers = [status.Status for status, _ in sender.send_c_find(query(), FIND)]
    assert answers == [0xFF00] * 200 + [0]
    assert store(sender) == 0


def test_find_can_be_cancelled(sender: Any) -> None:
    statuses = []
    for status, _ in sender.send_c_find(query(), FIND, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 1:
            sender.send_c_cancel(7, query_model=FIND)
    assert statuses[-1] in (0xFE00, 0)  # all answers may be on their way already
    assert store(sender) == 0


def test_get_stores_back_on_the_same_association(sender: Any) -> None:
    statuses = [status.Status for status, _ in sender.send_c_get(query(), GET)]
    assert statuses[-1] == 0
    assert sender.taken == ["object", "object"]
    assert store(sender) == 0


def test_report_from_another_thread(sender: Any, services: Services) -> None:
    action = Dataset()
    action.TransactionUID = generate_uid()
    status, _ = sender.send_n_action(action, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE)
    assert status.Status == 0
    services.may_report.set()
    wait_until(lambda: services.reported == [0], "the report")
    for thread in services.threads:
        thread.join()
    assert sender.taken == ["report"]
    assert store(sender) == 0
