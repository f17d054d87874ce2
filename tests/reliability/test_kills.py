"""SIGKILL at every step: each acknowledged instance is analysed and delivered exactly once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_out.delivery import send
from dicom_out.destination import DeliveryReceipt
from ledger.database import reading
from ledger.tables import ReceivedObject
from pacsight.samples import chest_radiograph
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.reliability.killing_worker import ALWAYS, MOMENTS
from tests.service import Service

pytestmark = [pytest.mark.reliability, pytest.mark.peer]


@pytest.fixture
def service(tmp_path: Path, orthanc: Orthanc) -> Iterator[Service]:
    service = Service(tmp_path / "service", pacs_port=orthanc.dicom_port)
    yield service
    service.stop()


def _radiograph(folder: Path, seed: int) -> tuple[str, Path]:
    dataset = chest_radiograph(seed, consolidation=bool(seed % 2), rows=320, columns=256)
    path = folder / f"{seed}.dcm"
    dataset.save_as(path)
    return str(dataset.StudyInstanceUID), path


def _results_in(pacs: Orthanc, study_uid: str) -> list[str]:
    """Return the modalities of the results in the PACS, one entry per SOP Instance."""
    series = pacs.dicomweb(f"studies/{study_uid}/instances")
    return sorted(instance["00080060"]["Value"][0] for instance in series)


@pytest.mark.parametrize("moment", [moment for moment in MOMENTS if moment != ALWAYS])
def test_worker_killed_once_delivers_once(
    moment: str, service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    uid, path = _radiograph(tmp_path, 1)
    marker = tmp_path / "killed"
    service.start("scp")
    (receipt,) = send([path], service.itself, calling_ae_title="TEST")
    assert receipt.status == 0x0000

    program = ("-m", "tests.reliability.killing_worker", moment, str(marker))
    service.start("worker", program=program)
    assert service.wait_for_end("worker") == -signal.SIGKILL
    assert marker.exists()
    service.start("worker")

    report = service.wait_until_settled(uid)
    assert report["state"] == "done", report
    assert report["revision"] == 1
    assert _results_in(orthanc, uid) == ["OT", "SR"]


def test_listener_killed_during_sends_loses_nothing_it_acknowledged(
    service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    studies = dict(_radiograph(tmp_path, seed) for seed in range(2, 14))
    service.start("serve")

    def push(path: Path) -> DeliveryReceipt:
        (receipt,) = send([path], service.itself, calling_ae_title="TEST")
        return receipt

    with ThreadPoolExecutor(3) as pool:
        answers = dict(zip(studies, pool.map(push, studies.values()), strict=False))
        _kill_child(service, "scp", after=lambda: _received(service) >= 3)
    acknowledged = [uid for uid, receipt in answers.items() if receipt.is_delivered]
    assert len(acknowledged) >= 3
    service.wait_for_echo()  # the supervisor has started it again
    for uid in set(studies) - set(acknowledged):
        assert push(studies[uid]).is_delivered

    for uid in studies:
        assert service.wait_until_settled(uid)["state"] == "done"
        assert _results_in(orthanc, uid) == ["OT", "SR"]


def test_everything_killed_at_once_resumes(
    service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    studies = dict(_radiograph(tmp_path, seed) for seed in range(20, 24))
    service.start("serve")
    receipts = send(list(studies.values()), service.itself, calling_ae_title="TEST")
    assert all(receipt.is_delivered for receipt in receipts)
    service.kill("serve")  # the children read the end of their pipe and stop as well
    service.start("serve")
    for uid in studies:
        assert service.wait_until_settled(uid)["state"] == "done"
        assert _results_in(orthanc, uid) == ["OT", "SR"]


def test_another_worker_takes_over_from_one_that_stays_dead(
    service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    uid, path = _radiograph(tmp_path, 30)
    service.start("scp")
    send([path], service.itself, calling_ae_title="TEST")
    program = ("-m", "tests.reliability.killing_worker", "before predict", str(tmp_path / "killed"))
    service.start("worker", "--name", "one", program=program)
    assert service.wait_for_end("worker") == -signal.SIGKILL
    service.start("worker", "--name", "two")
    assert service.wait_until_settled(uid)["state"] == "done"
    assert _results_in(orthanc, uid) == ["OT", "SR"]


def test_job_that_kills_every_worker_ends_with_a_code_and_others_go_on(
    service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    uid, path = _radiograph(tmp_path, 40)
    service.start("scp")
    send([path], service.itself, calling_ae_title="TEST")
    program = ("-m", "tests.reliability.killing_worker", ALWAYS, str(tmp_path / "unused"))

    def given_up() -> bool:
        worker = service.processes.get("worker")
        if worker is None or worker.poll() is not None:
            service.start("worker", program=program)
        report = service.report(uid)
        return bool(report and report["state"] == "failed")

    wait_until(given_up, "the job to be given up", timeout_s=200)
    report = service.report(uid)
    assert report is not None
    (failure,) = report["revisions"][0]["failures"]
    assert failure["code"] == "JOB_GIVEN_UP"
    service.kill("worker")

    other, path = _radiograph(tmp_path, 41)
    service.start("worker")
    send([path], service.itself, calling_ae_title="TEST")
    assert service.wait_until_settled(other)["state"] == "done"
    assert _results_in(orthanc, other) == ["OT", "SR"]


def _received(service: Service) -> int:
    with reading(service.ledger) as session:
        return session.query(ReceivedObject).count()


def _kill_child(service: Service, role: str, *, after: Callable[[], bool]) -> None:
    import psutil

    wait_until(after, "the moment to kill")
    for child in psutil.Process(service.processes["serve"].pid).children():
        if role in child.cmdline():
            child.kill()
            return
    pytest.fail(f"{role} is not running")
