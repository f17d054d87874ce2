"""Several machines, played by processes with own folders: PostgreSQL and S3 between them."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

from dicom_out.delivery import send
from ledger.database import reading
from ledger.tables import Job, ReceivedObject, Worker
from pacsight.samples import chest_radiograph
from tests.inference.factories import write_model
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.peers.s3 import S3
from tests.service import Service

pytestmark = [pytest.mark.reliability, pytest.mark.peer, pytest.mark.timeout(900)]

TAKEOVER_S = 30.0


class Machines:
    """Two that receive, two that work, each with its own data folder and nothing else shared."""

    def __init__(self, folder: Path, database_url: str, store_url: str, pacs: Orthanc) -> None:
        write_model(folder / "models")
        self.folder = folder
        self.pacs = pacs

        def machine(name: str) -> Service:
            return Service(
                folder / name,
                pacs_port=pacs.dicom_port,
                models_dir=str(folder / "models"),
                database_url=database_url,
                object_store_url=store_url,
                completeness={"quiet_s": 0.3, "broken_quiet_s": 0.3},
                inference={"backend": "openvino", "threads": 1},
            )

        self.receivers = [machine("receiver-1"), machine("receiver-2")]
        self.workers = [machine("worker-1"), machine("worker-2")]

    @property
    def all(self) -> list[Service]:
        return [*self.receivers, *self.workers]

    def start(self) -> None:
        for machine in self.receivers:
            machine.start("scp", "--name", machine.folder.name, wait=False)
            machine.start("worker", "--queues", "intake", "--name", machine.folder.name)
        for machine in self.workers:
            self.start_worker(machine)
        for machine in self.receivers:
            machine.wait_for_echo()

    def start_worker(self, machine: Service, *, program: tuple[str, ...] = ()) -> None:
        options = ("--queues", "cpu,predict,deliver", "--name", machine.folder.name)
        machine.start("worker", *options, program=program or ("-m", "pacsight"))

    def push(self, first: int, count: int) -> list[str]:
        """Send studies to both receivers, each study to both of them in turn; return their UIDs."""

        def one(seed: int) -> str:
            dataset = chest_radiograph(seed, consolidation=False, rows=96, columns=80)
            path = self.folder / f"{seed}.dcm"
            dataset.save_as(path)
            to = self.receivers[seed % 2].itself
            (receipt,) = send([path], to, calling_ae_title="TEST")
            assert receipt.status == 0x0000
            return str(dataset.StudyInstanceUID)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, range(first, first + count)))

    def wait_until_delivered(self, uids: list[str], timeout_s: float = 90.0) -> None:
        reader = self.receivers[0]
        for uid in uids:
            assert reader.wait_until_settled(uid, timeout_s=timeout_s)["state"] == "done"
            series = self.pacs.dicomweb(f"studies/{uid}/instances")
            assert Counter(item["00080060"]["Value"][0] for item in series) == {"SR": 1, "OT": 1}

    def stop(self) -> None:
        for machine in self.all:
            machine.stop()


@pytest.fixture
def machines(
    tmp_path: Path, postgres_url: str, s3: S3, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machines]:
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    machines = Machines(tmp_path, postgres_url, s3.create_bucket(), orthanc)
    yield machines
    machines.stop()


def test_machines_share_work_survive_each_other_and_are_upgraded_one_by_one(
    machines: Machines, tmp_path: Path
) -> None:
    machines.start()
    machines.wait_until_delivered(machines.push(100, 4))
    _assert_nothing_is_shared_but_database_and_store(machines)

    # One dies in the middle of an inference and stays dead: the other takes its work over.
    doomed, other = machines.workers
    for machine in machines.workers:
        machine.processes["worker"].terminate()
        machine.wait_for_end("worker")
    program = ("-m", "tests.reliability.killing", "before predict", str(tmp_path / "killed"))
    machines.start_worker(doomed, program=program)
    uids = machines.push(200, 1)
    assert doomed.wait_for_end("worker") == -signal.SIGKILL
    died = time.monotonic()
    machines.start_worker(other)
    machines.wait_until_delivered(uids)
    takeover_s = time.monotonic() - died
    print(f"taken over and delivered {takeover_s:.1f} s after the worker died")
    assert takeover_s < TAKEOVER_S + 10.0  # of which some are the work itself

    # The next release comes while jobs are in flight: one worker after the other.
    machines.start_worker(doomed)
    uids = machines.push(300, 6)
    for machine in machines.workers:
        machine.processes["worker"].terminate()
        machine.wait_for_end("worker")
        machines.start_worker(machine, program=("-m", "tests.reliability.next_release"))
        uids += machines.push(400 + len(uids), 3)
    machines.wait_until_delivered(uids)
    with reading(machines.receivers[0].ledger) as session:
        versions = set(session.scalars(select(Worker.version).where(Worker.seen_at > 0)))
        assert "99.0" in versions
        assert session.scalar(select(func.count()).where(Job.error_code.is_not(None))) == 0


def test_machine_that_is_gone_does_not_hold_up_the_others(machines: Machines) -> None:
    gone, stays = machines.receivers
    gone.start("scp", "--name", "gone")
    path = machines.folder / "unread.dcm"
    chest_radiograph(500, consolidation=False, rows=96, columns=80).save_as(path)
    (receipt,) = send([path], gone.itself, calling_ae_title="TEST")
    assert receipt.status == 0x0000
    gone.kill("scp")  # with an object that nobody has read
    stays.start("scp", "--name", "stays", wait=False)
    stays.start("worker", "--name", "stays")
    stays.wait_for_echo()
    machines.wait_until_delivered(machines.push(501, 1))
    with reading(stays.ledger) as session:
        assert session.query(ReceivedObject).filter_by(state="received").count() == 1
    gone.start("worker", "--queues", "intake", "--name", "gone")  # it is back: nothing was lost

    def all_read() -> bool:
        with reading(stays.ledger) as session:
            return session.query(ReceivedObject).filter_by(state="received").count() == 0

    wait_until(all_read, "the object of the machine that was gone")


def _assert_nothing_is_shared_but_database_and_store(machines: Machines) -> None:
    for machine in machines.workers:
        names = {path.name for path in machine.settings.data_dir.rglob("*") if path.is_file()}
        assert not [name for name in names if name.endswith((".seg", ".dcm", ".npz"))]
    with reading(machines.receivers[0].ledger) as session:
        segments = set(session.scalars(select(ReceivedObject.segment)))
    assert all(segment.startswith("packs/") for segment in segments)
    assert len({segment.split("/")[1] for segment in segments}) == 2  # both received some
