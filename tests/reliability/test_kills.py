"""SIGKILL at every step: each acknowledged instance is analysed and delivered exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_out.delivery import send
from pacsight.samples import chest_radiograph
from tests.inference.factories import write_model
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.reliability.killing import ALWAYS
from tests.reliability.matrix import DATABASES, Matrix, service_for
from tests.service import Service

pytestmark = [pytest.mark.reliability, pytest.mark.peer, pytest.mark.timeout(900)]


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


@pytest.mark.parametrize("database", DATABASES)
def test_nothing_is_lost_or_doubled_by_kills_at_every_step(
    database: str, tmp_path: Path, orthanc: Orthanc, request: pytest.FixtureRequest
) -> None:
    """The short form of the kill matrix; `make soak` runs the long one."""
    url = request.getfixturevalue("postgres_url") if database == "PostgreSQL" else None
    write_model(tmp_path / "models")
    service = service_for(tmp_path / "service", orthanc, tmp_path / "models", url)
    try:
        tally = Matrix(service, orthanc, database, seed=DATABASES.index(database)).run(kills=15)
    finally:
        service.stop()
    assert tally.lost == []
    assert tally.twice == []
    assert tally.kills.total() == 15
    assert tally.delivered_once + tally.refused_visibly == tally.acknowledged
    assert tally.delivered_once >= 10
    assert tally.refused_visibly > 0


def test_job_that_kills_every_worker_ends_with_a_code_and_others_go_on(
    service: Service, orthanc: Orthanc, tmp_path: Path
) -> None:
    uid, path = _radiograph(tmp_path, 40)
    service.start("scp")
    send([path], service.itself, calling_ae_title="TEST")
    program = ("-m", "tests.reliability.killing", ALWAYS, str(tmp_path / "unused"))

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
