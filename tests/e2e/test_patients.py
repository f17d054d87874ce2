"""Wrong patients: a rename while a study is analysed, and a study of two patients."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_out.delivery import send
from pacsight.samples import SamplePatient, chest_radiograph
from tests.e2e.test_orthanc_loop import Hospital, _pacsight
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.service import Service

pytestmark = pytest.mark.peer
BEFORE = SamplePatient(patient_name="Müller^Änne", patient_id="4711")
AFTER = SamplePatient(patient_name="Schröder^Änne", patient_id="4711")


def _store(service: Service, folder: Path, *images: Dataset) -> str:
    folder.mkdir()
    for number, ds in enumerate(images):
        ds.save_as(folder / f"{number}.dcm")
    receipts = send([folder], service.itself, calling_ae_title="DX01")
    assert all(receipt.is_delivered for receipt in receipts)
    return str(images[0].StudyInstanceUID)


@pytest.fixture
def hospital(tmp_path: Path, start_orthanc: Callable[..., Orthanc]) -> Iterator[Hospital]:
    """Orthanc forwards nothing."""
    pacs = start_orthanc()
    service = Service(tmp_path / "service", pacs_port=pacs.dicom_port)
    service.start("serve")
    yield Hospital(pacs, service)
    service.stop()


def test_results_go_to_the_patient_whose_study_it_is(hospital: Hospital, tmp_path: Path) -> None:
    pacs, service = hospital.orthanc, hospital.service

    # the PACS has the study renamed already when the results are ready
    renamed = io.BytesIO()
    chest_radiograph(1, consolidation=True, patient=AFTER).save_as(renamed)
    pacs.upload(renamed.getvalue())
    uid = _store(service, tmp_path / "one", chest_radiograph(1, consolidation=True, patient=BEFORE))
    report = service.wait_until_settled(uid, revision=2)
    assert [
        (one["complete_because"]["code"], one["superseded_by"]) for one in report["revisions"]
    ] == [("ASSOCIATION_RELEASED_AND_QUIET", 2), ("PATIENT_RENAMED", None)]
    old = [item for one in report["revisions"][0]["decisions"] for item in one["results"]]
    reasons = {sent["last_error"][:15] for item in old for sent in item["deliveries"]}
    assert reasons == {"PATIENT_CHANGED"}
    results = hospital.results(uid)
    assert {str(ds.PatientName) for ds in results.values()} == {"Schröder^Änne"}
    assert not {item["sop_instance_uid"] for item in old} & {
        str(ds.SOPInstanceUID) for ds in results.values()
    }

    # a study of two patients: nothing happens until somebody decides
    mixed = chest_radiograph(2, consolidation=False, patient=BEFORE)
    stray = chest_radiograph(3, consolidation=True, patient=SamplePatient(patient_id="99"))
    stray.StudyInstanceUID = mixed.StudyInstanceUID
    other = _store(service, tmp_path / "two", mixed, stray)
    wait_until(lambda: (service.report(other) or {}).get("state") == "held", "the study to be held")
    shown = json.loads(_pacsight(service, "studies", "show", other, "--patients", "--json"))
    assert (shown["state"], shown["revisions"]) == ("held", [])
    assert shown["held_because"]["code"] == "PATIENT_CONFLICT"
    assert [(one["number"], one["is_accepted"]) for one in shown["patients"]] == [
        (1, True),
        (2, None),
    ]
    listed = json.loads(_pacsight(service, "studies", "list", "--json"))
    assert [one["state"] for one in listed if one["study_instance_uid"] == other] == ["held"]

    mine = next(one for one in shown["patients"] if one["patient_id"] == "4711")
    said = _pacsight(
        service, "studies", "release", other, "--as", f"#{mine['number']}", "--drop-others"
    )
    assert "revision 1" in said
    report = service.wait_until_settled(other)
    (decision,) = report["revisions"][0]["decisions"]
    images = [one["sop_instance_uid"] for one in decision["predictions"]]
    assert images == [str(mixed.SOPInstanceUID)]
    assert {str(ds.PatientID) for ds in hospital.results(other).values()} == {"4711"}

    assert not any(word in service.log("serve") for word in ("Müller", "Schröder", "4711"))
