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

from dicom_out.delivery import send
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
    service = Service(
        tmp_path_factory.mktemp("service"), pacs_port=pacs.dicom_port, models_dir=str(models)
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
    assert sorted({ds.Modality for ds in results}) == ["OT", "SEG", "SR"]
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
    assert applied["toy-mask"]["predictions"][0]["segments"][0]["label"] == "Heart"
    assert sorted(ds.Modality for ds in received(pacs, uid)) == ["OT", "OT", "SR", "SR"]


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
    sources = {ds.SeriesDescription for ds in received(pacs, uid)}
    assert not any("Pneumonia" in text for text in sources)
