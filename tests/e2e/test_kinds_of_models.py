"""Models of series and of masks, and a gate that refuses, through the service into Orthanc."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select

from dicom_out.delivery import send
from ledger.database import reading
from ledger.tables import PredictionRow
from pacsight.samples import chest_radiograph, ct_series
from tests.pacsight.models import write_mask_model, write_volume_model
from tests.peers.orthanc import Orthanc
from tests.service import REPOSITORY, Service

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    pacs = Orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", {})
    pacs.start()
    yield pacs
    pacs.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    write_volume_model(models)
    write_mask_model(models)
    shutil.copytree(REPOSITORY / "checkpoints" / "cxr-pneumonia", models / "cxr-pneumonia")
    pacs_as_destination = {
        "name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.dicom_port,
        "profile": "everything",
    }  # fmt: skip
    service = Service(
        tmp_path_factory.mktemp("service"),
        pacs_port=pacs.dicom_port,
        models_dir=str(models),
        destinations=[pacs_as_destination],
        profiles=[{"name": "everything", "pdf": True, "refusals": True}],
    )
    service.start("serve")
    yield service
    service.stop()


def received(pacs: Orthanc, study_uid: str) -> list[Dataset]:
    found = []
    for instance in pacs.instances():
        data = pacs.http.get(f"/instances/{instance['ID']}/file").content
        ds = dcmread(io.BytesIO(data))
        if ds.StudyInstanceUID == study_uid:
            found.append(ds)
    return found


def store(service: Service, datasets: list[Dataset], folder: Path) -> str:
    paths = []
    for number, ds in enumerate(datasets):
        paths.append(folder / f"{number}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    assert all(
        receipt.is_delivered for receipt in send(paths, service.itself, calling_ae_title="T")
    )
    return str(datasets[0].StudyInstanceUID)


def test_series_comes_back_as_a_segmentation_on_its_slices(
    service: Service, pacs: Orthanc, tmp_path: Path
) -> None:
    series = ct_series(31, slices=12, rows=48, columns=40)
    uid = store(
        service, [series[index] for index in (5, 0, 11, *range(1, 5), *range(6, 11))], tmp_path
    )
    report = service.wait_until_settled(uid)
    assert report["state"] == "done"
    (decision,) = (d for d in report["revisions"][0]["decisions"] if not d["refused"])
    (prediction,) = decision["predictions"]
    results = received(pacs, uid)
    assert sorted({ds.Modality for ds in results}) == ["DOC", "OT", "SEG", "SR"]
    (segmentation,) = (ds for ds in results if ds.Modality == "SEG")
    read = highdicom.seg.Segmentation.from_dataset(segmentation)
    pixels = read.get_pixels_by_source_instance([str(ds.SOPInstanceUID) for ds in series])
    assert pixels.shape[:3] == (12, 48, 40)
    assert int(pixels.sum()) == prediction["segments"][0]["voxels"]
    voxel_ml = 5 * (350 / 48) * (350 / 40) / 1000
    assert prediction["segments"][0]["volume_ml"] == pytest.approx(
        float(pixels.sum()) * voxel_ml, rel=1e-3
    )


def test_radiograph_comes_back_outlined_and_judged(
    service: Service, pacs: Orthanc, tmp_path: Path
) -> None:
    uid = store(service, [chest_radiograph(32, consolidation=True)], tmp_path)
    report = service.wait_until_settled(uid)
    applied = {d["model"]: d for d in report["revisions"][0]["decisions"] if not d["refused"]}
    assert set(applied) == {"cxr-pneumonia", "toy-mask"}
    (segment,) = applied["toy-mask"]["predictions"][0]["segments"]
    assert segment["label"] == "Heart"
    with reading(service.ledger) as session:
        summaries = session.scalars(select(PredictionRow.summary)).all()
    assert [["Area", f"{segment['voxels']} pixels"]] in [
        size for one in summaries for size in one.get("segment_sizes", [])
    ]
    assert sorted(ds.Modality for ds in received(pacs, uid)) == [
        "DOC",
        "DOC",
        "OT",
        "OT",
        "SR",
        "SR",
    ]


def test_picture_that_the_gate_refuses_is_a_refusal_and_not_a_failure(
    service: Service, pacs: Orthanc, tmp_path: Path
) -> None:
    blank = chest_radiograph(33, consolidation=False)
    blank.PixelData = np.full(blank.pixel_array.shape, 1000, np.uint16).tobytes()
    uid = store(service, [blank], tmp_path)
    report = service.wait_until_settled(uid)
    decisions = {d["model"]: d for d in report["revisions"][0]["decisions"]}
    assert decisions["cxr-pneumonia"]["refused"]["code"] == "QUALITY_EMPTY"
    assert report["revisions"][0]["failures"] == []
    told = [ds for ds in received(pacs, uid) if "Pneumonia" in ds.SeriesDescription]
    (refusal,) = told  # no report and no picture
    (why,) = conclusions(refusal)
    assert why.startswith("Not analysed by cxr-pneumonia 1.0.0: QUALITY_EMPTY.")
    assert refusal.PatientName == blank.PatientName


def test_study_that_no_model_takes_is_answered_with_the_reasons(
    service: Service, pacs: Orthanc, tmp_path: Path
) -> None:
    stranger = chest_radiograph(34, consolidation=False)
    stranger.Modality, stranger.BodyPartExamined = "MG", "BREAST"
    uid = store(service, [stranger], tmp_path)
    report = service.wait_until_settled(uid)
    assert all(d["refused"] for d in report["revisions"][0]["decisions"])
    (refusal,) = received(pacs, uid)
    assert refusal.SOPClassUID.name == "Basic Text SR Storage"
    assert len(conclusions(refusal)) == 3
    assert all("MODALITY_NOT_ACCEPTED" in why for why in conclusions(refusal))


def conclusions(report: Dataset) -> list[str]:
    named = (item for item in report.ContentSequence if item.ValueType == "TEXT")
    return [item.TextValue for item in named if item.TextValue.startswith("Not analysed")]
