"""The main job with real peers: dcmtk to Orthanc to Pacsight and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from ledger.database import reading
from ledger.tables import ReceivedObject
from pacsight.samples import SamplePatient, chest_radiograph, ct_series
from tests.peers.orthanc import Orthanc
from tests.peers.process import program, wait_until
from tests.service import Service

pytestmark = pytest.mark.peer
Dcmtk = Callable[..., str]


@dataclass
class Hospital:
    """Orthanc forwards what is stable to Pacsight and takes the results."""

    orthanc: Orthanc
    service: Service

    def results(self, study_uid: str) -> dict[str, Dataset]:
        """Return the results in Orthanc by modality, read from the bytes that it serves."""
        found = {}
        for instance in self.orthanc.instances():
            data = self.orthanc.http.get(f"/instances/{instance['ID']}/file").content
            path = self.service.folder / f"{instance['ID']}.dcm"
            path.write_bytes(data)
            dataset = dcmread(path)
            if dataset.StudyInstanceUID == study_uid and dataset.Modality in {"SR", "OT"}:
                dataset.filename = str(path)
                found[dataset.Modality] = dataset
        return found


@pytest.fixture(params=["sqlite", "postgres"])
def hospital(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start_orthanc: Callable[..., Orthanc],
    free_port: Callable[[], int],
) -> Iterator[Hospital]:
    port = free_port()
    orthanc = start_orthanc(FORWARD="yes", FORWARD_TO_PORT=str(port))
    more = {}
    if request.param == "postgres":
        more["database_url"] = request.getfixturevalue("postgres_url")
    service = Service(
        tmp_path / "service", pacs_port=orthanc.dicom_port, scp={"port": port}, **more
    )
    service.start("serve")
    yield Hospital(orthanc, service)
    service.stop()


def _save(dataset: Dataset, path: Path) -> Path:
    dataset.save_as(path)
    return path


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [program(str(command[0])), *map(str, command[1:])],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout + done.stderr


def test_chest_radiograph_comes_back_with_report_and_heatmap(
    hospital: Hospital, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    patient = SamplePatient(patient_name="Marked^Person", patient_id="PHI-4711")
    source = chest_radiograph(1, consolidation=True, patient=patient)
    uid = str(source.StudyInstanceUID)
    port = str(hospital.orthanc.dicom_port)
    dcmtk("storescu", "-aec", "ORTHANC", "127.0.0.1", port, _save(source, tmp_path / "dx.dcm"))

    results = wait_until(
        lambda: len(found := hospital.results(uid)) == 2 and found, "the results", timeout_s=60
    )

    for dataset in results.values():
        path = str(dataset.filename)
        assert "Error" not in _run("dciodvfy", "-new", path), path
        assert dataset.PatientName == source.PatientName
        assert dataset.PatientID == source.PatientID
    report = dcmtk("dsrdump", results["SR"].filename)
    assert "Pneumonia" in report
    assert "cxr-pneumonia" in report or "Pneumonia on chest" in report
    capture = results["OT"]
    assert (capture.Columns, capture.SamplesPerPixel) == (source.Columns, 3)

    series = hospital.orthanc.dicomweb(f"studies/{uid}/series")
    assert sorted(item["00080060"]["Value"][0] for item in series) == ["DX", "OT", "SR"]

    shown = json.loads(_pacsight(hospital.service, "studies", "show", uid, "--json"))
    assert shown["state"] == "done"
    assert shown["revisions"][0]["complete_because"]["code"]

    assert "done" in hospital.service.log("serve")
    assert _no_phi_in(hospital.service.log("serve"))

    # Orthanc declares the study stable again, now with the results; nothing starts anew.
    wait_until(lambda: _stable_twice(hospital.orthanc, uid), "the study to be stable again")
    assert hospital.service.report(uid)["revision"] == 1  # type: ignore[index]  # it was shown
    with reading(hospital.service.ledger) as session:
        assert session.query(ReceivedObject).count() == 1


def _no_phi_in(log: str) -> bool:
    return not any(secret in log for secret in ("Marked", "Person", "4711", "20220102"))


def _pacsight(service: Service, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pacsight", "--config", str(service.config), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _stable_twice(orthanc: Orthanc, uid: str) -> bool:
    changes = orthanc.get("/changes?limit=1000")["Changes"]
    return sum(change["ChangeType"] == "StableStudy" for change in changes) >= 2


def test_results_sent_to_pacsight_start_nothing(
    hospital: Hospital, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    """A PACS that forwards everything, results included, meets a second line of defence."""
    source = _save(chest_radiograph(2, consolidation=False), tmp_path / "dx.dcm")
    uid = str(dcmread(source).StudyInstanceUID)
    port = str(hospital.service.port)
    dcmtk("storescu", "-aec", "PACSIGHT", "127.0.0.1", port, source)
    report = hospital.service.wait_until_settled(uid)
    assert report["state"] == "done", report
    files = [str(dataset.filename) for dataset in hospital.results(uid).values()]
    dcmtk("dcmsend", "-aec", "PACSIGHT", "127.0.0.1", port, *files)

    def states() -> list[str]:
        with reading(hospital.service.ledger) as session:
            return sorted(row.state for row in session.query(ReceivedObject))

    wait_until(lambda: "received" not in states(), "indexing")
    assert states() == ["indexed", "own_result", "own_result"]
    assert hospital.service.report(uid)["revision"] == 1  # type: ignore[index]  # it is settled


@pytest.mark.parametrize("hospital", ["sqlite"], indirect=True)
def test_study_that_no_model_takes_is_refused_visibly(
    hospital: Hospital, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    series = ct_series(3)
    files = [_save(item, tmp_path / f"{n}.dcm") for n, item in enumerate(series)]
    port = str(hospital.service.port)
    dcmtk("storescu", "-aec", "PACSIGHT", "127.0.0.1", port, *files)
    report = hospital.service.wait_until_settled(str(series[0].StudyInstanceUID))
    assert report["state"] == "not analysed"
    (decision,) = report["revisions"][0]["decisions"]
    assert decision["refused"]["code"] == "MODALITY_NOT_ACCEPTED"
    (event,) = [one for one in report["events"] if one["action"] == "study.refused"]
    assert event["detail"]["code"] == "NO_APPLICABLE_MODEL"


@pytest.mark.parametrize("hospital", ["postgres"], indirect=True)
def test_late_instance_and_replay_are_new_revisions(
    hospital: Hospital, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    first = chest_radiograph(5, consolidation=True)
    uid = str(first.StudyInstanceUID)
    late = chest_radiograph(6, consolidation=False, study_instance_uid=uid)
    late.PatientID, late.PatientName = first.PatientID, first.PatientName
    address = ("-aec", "PACSIGHT", "127.0.0.1", str(hospital.service.port))
    dcmtk("storescu", *address, _save(first, tmp_path / "first.dcm"))
    assert hospital.service.wait_until_settled(uid)["revision"] == 1
    dcmtk("storescu", *address, _save(late, tmp_path / "late.dcm"))
    report = hospital.service.wait_until_settled(uid, revision=2)
    (decision,) = report["revisions"][1]["decisions"]
    assert len(decision["predictions"]) == 2
    dcmtk("storescu", *address, tmp_path / "late.dcm")  # identical: nothing changes
    _pacsight(hospital.service, "studies", "replay", uid)
    report = hospital.service.wait_until_settled(uid, revision=3)
    assert report["revisions"][2]["complete_because"]["code"] == "REPLAYED"
    assert report["state"] == "done"
    assert [one["superseded_by"] for one in report["revisions"]] == [3, 3, None]
    instances = hospital.orthanc.dicomweb(f"studies/{uid}/instances")
    kinds = [instance["00080060"]["Value"][0] for instance in instances]
    assert sorted(kinds) == ["OT"] * 5 + ["SR"] * 3
    reports = [
        hospital.orthanc.dicomweb(
            f"studies/{uid}/series/{one['0020000E']['Value'][0]}/instances/{_uid(one)}/metadata"
        )[0]
        for one in instances
        if one["00080060"]["Value"] == ["SR"]
    ]
    chain = {_uid(report): _predecessor(report) for report in reports}
    newest = (set(chain) - set(chain.values())).pop()
    assert chain[chain[chain[newest]]] == ""  # each names the one before, the first none


def _uid(report: dict[str, Any]) -> str:
    return str(report["00080018"]["Value"][0])


def _predecessor(report: dict[str, Any]) -> str:
    if "0040A360" not in report:  # Predecessor Documents Sequence
        return ""
    series = report["0040A360"]["Value"][0]["00081115"]["Value"][0]
    return str(series["00081199"]["Value"][0]["00081155"]["Value"][0])


@pytest.mark.parametrize("hospital", ["sqlite"], indirect=True)
def test_destination_that_is_down_gets_the_results_when_it_is_back(
    hospital: Hospital, dcmtk: Dcmtk, tmp_path: Path
) -> None:
    source = chest_radiograph(4, consolidation=True, patient=SamplePatient(patient_name="Ärger^Ö"))
    uid = str(source.StudyInstanceUID)
    hospital.orthanc.stop()
    port = str(hospital.service.port)
    path = _save(source, tmp_path / "dx.dcm")
    dcmtk("storescu", "-aec", "PACSIGHT", "127.0.0.1", port, path)

    def errors() -> set[str]:
        listed = json.loads(_pacsight(hospital.service, "deliveries", "list", "--json"))
        return {row["last_error"].split(":")[0] for row in listed if row["last_error"]}

    wait_until(errors, "a failed attempt", timeout_s=60)
    assert errors() == {"DESTINATION_UNREACHABLE"}
    assert hospital.service.report(uid)["state"] == "delivering"  # type: ignore[index]
    hospital.orthanc.start()
    assert hospital.service.wait_until_settled(uid)["state"] == "done"
    assert str(hospital.results(uid)["SR"].PatientName) == "Ärger^Ö"
