"""Analysis of volumes and outlined pictures, in files of every kind."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from dicom_out.volume import volume_to_dicom
from inference.config import InferenceConfig
from inference.model_server import ModelServer
from inference.nifti import read_nifti
from inference.reading import read_image
from inference.registry import scan_models
from ledger.domain import KeySlice
from pacsight.analysis import Analysis, analyze_study
from pacsight.local_studies import collect_studies
from pacsight.samples import chest_radiograph, ct_series
from tests.inference.stacks import StackMade
from tests.pacsight.models import write_mask_model, write_slice_model, write_volume_model
from tests.service import one_model

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AFFINE = np.array([[0, 1.5, 0, -20], [-1.2, 0, 0, 31], [0, 0, 4.0, 7], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_volume_model(folder)
    write_mask_model(folder)
    return folder


def analyze(models: Path, path: Path, out: Path, chosen: str | None = None) -> list[Analysis]:
    registry = scan_models(models)
    server = ModelServer(registry, InferenceConfig(backend="torch"), has_gates=True)
    (study,) = collect_studies([path])
    return list(analyze_study(study, registry, server, chosen=chosen, out=out, now=NOW))


def write_nifti_volume(folder: Path) -> Path:
    generator = np.random.default_rng(4)
    values = generator.normal(100, 20, (40, 36, 18)).astype(np.int16)
    values[10:25, 8:28, 4:14] += 120
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "heart.nii.gz")
    return folder / "heart.nii.gz"


def test_nifti_gives_a_mask_on_its_own_grid_and_dicom_results(models: Path, tmp_path: Path) -> None:
    path = write_nifti_volume(tmp_path)
    (found,) = analyze(models, path, tmp_path / "out", "toy-volume")
    assert found.refusal is None
    source, mask = nibabel.load(path), nibabel.load(found.masks[0])
    assert mask.shape == source.shape
    np.testing.assert_allclose(mask.affine, source.affine)
    voxels = int(np.asarray(mask.dataobj).sum())
    assert 0 < voxels < np.prod(source.shape)
    (segment,) = found.predictions[0].segments
    assert segment.volume_ml == pytest.approx(voxels * 1.5 * 1.2 * 4 / 1000)
    kinds = [dcmread(result).Modality for result in found.results]
    assert list(dict.fromkeys(kinds)) == ["SR", "SEG", "OT", "DOC"]
    assert found.results[-1].with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    slices = sorted((found.results[0].parent / "source").iterdir())
    assert len(slices) == 18
    study = dcmread(slices[0]).StudyInstanceUID
    assert {dcmread(result).StudyInstanceUID for result in found.results} == {study}


def test_series_and_the_same_volume_as_nifti_give_the_same_mask(
    models: Path, tmp_path: Path
) -> None:
    path = write_nifti_volume(tmp_path)
    (as_nifti,) = analyze(models, path, tmp_path / "out", "toy-volume")
    volume = read_nifti(path)
    (tmp_path / "series").mkdir()
    for number, ds in enumerate(volume_to_dicom(volume.array, volume.affine, seed="x", now=NOW)):
        ds.save_as(tmp_path / "series" / f"{(number * 7) % 18:02}.dcm", enforce_file_format=True)
    analyses = analyze(models, tmp_path / "series", tmp_path / "out")
    (as_series,) = (found for found in analyses if found.refusal is None)
    first, second = (nibabel.load(found.masks[0]) for found in (as_nifti, as_series))
    same = np.asarray(first.dataobj) == np.asarray(second.dataobj)
    assert same.mean() > 0.999  # slices in the same order here, because both count up the normal
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-4)


def test_picture_gives_a_mask_of_its_own_size(models: Path, tmp_path: Path) -> None:
    ds = chest_radiograph(1, consolidation=False, rows=120, columns=90)
    ds.save_as(tmp_path / "dx.dcm", enforce_file_format=True)
    analyses = analyze(models, tmp_path / "dx.dcm", tmp_path / "out")
    (found,) = (item for item in analyses if item.refusal is None)
    with Image.open(found.masks[0]) as mask:
        assert mask.size == (90, 120)
        assert set(np.unique(np.asarray(mask)).tolist()) <= {0, 255}
    assert [dcmread(result).Modality for result in found.results] == ["SR", "OT", "DOC"]


@pytest.mark.parametrize(
    ("model", "make", "code"),
    [
        ("toy-mask", write_nifti_volume, "WRONG_SOURCE"),
        (
            "toy-volume",
            lambda folder: _png(folder),
            "SERIES_TOO_SHORT",
        ),
        ("toy-volume", lambda folder: _flat_nifti(folder), "NOT_A_VOLUME"),
        ("toy-volume", lambda folder: _hole_nifti(folder), "NOT_A_VOLUME"),
    ],
)
def test_what_a_model_is_not_made_for_is_refused(
    models: Path, tmp_path: Path, model: str, make: object, code: str
) -> None:
    path = make(tmp_path)  # type: ignore[operator]  # parametrised
    (found,) = analyze(models, path, tmp_path / "out", model)
    assert found.refusal is not None
    assert found.refusal.code == code


def _png(folder: Path) -> Path:
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(folder / "flat.png")
    return folder / "flat.png"


def _flat_nifti(folder: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4)), folder / "f.nii")
    return folder / "f.nii"


def _hole_nifti(folder: Path) -> Path:
    values = np.ones((20, 20, 20), np.float32)
    values[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "h.nii")
    return folder / "h.nii"


def test_series_with_a_missing_slice_is_refused_with_its_reason(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "ct").mkdir()
    for number, ds in enumerate(ct_series(3, slices=8, rows=32, columns=32)):
        if number != 3:
            ds.save_as(tmp_path / "ct" / f"{number}.dcm", enforce_file_format=True)
    analyses = analyze(models, tmp_path / "ct", tmp_path / "out")
    (found,) = (item for item in analyses if item.model and item.model.model_id == "toy-volume")
    assert found.refusal is not None
    assert (found.refusal.code, "evenly spaced" in found.refusal.message) == ("SLICE_GAP", True)


def test_series_gets_one_answer_about_the_slice_that_speaks_most(tmp_path: Path) -> None:
    write_slice_model(tmp_path / "models")
    series = ct_series(3, slices=6, rows=64, columns=64)
    (tmp_path / "ct").mkdir()
    for number, ds in enumerate(series):
        ds.save_as(tmp_path / "ct" / f"{number}.dcm", enforce_file_format=True)
    (found,) = analyze(tmp_path / "models", tmp_path / "ct", tmp_path / "out")
    (prediction,) = found.predictions
    alone = {}
    for number, ds in enumerate(series):
        path = tmp_path / "ct" / f"{number}.dcm"
        (one,) = analyze(tmp_path / "models", path, tmp_path / "alone")
        alone[ds.SOPInstanceUID] = one.predictions[0].findings[0].probability
    assert prediction.sop_instance_uid == max(alone, key=alone.__getitem__)
    assert prediction.findings[0].probability == pytest.approx(max(alone.values()), rel=1e-6)
    upwards = sorted(series, key=lambda ds: float(ds.ImagePositionPatient[2]))
    place = [ds.SOPInstanceUID for ds in upwards].index(prediction.sop_instance_uid) + 1
    assert prediction.key_slice == KeySlice(("Heart",), (6,), place, 6, 6)
    sentence = b"Heart: positive, the highest of 6 slices looked at, positive on 6"
    assert sentence in found.results[0].read_bytes()
    assert [dcmread(result).Modality for result in found.results] == ["SR", "OT", "DOC"]


def test_enhanced_object_gives_the_mask_of_its_slices(models: Path, tmp_path: Path) -> None:
    shades = np.add.outer(np.add.outer(np.arange(10), np.arange(24)), np.arange(20)) * 9
    made = StackMade(values=shades.astype(np.int16))
    (tmp_path / "classic").mkdir()
    for number, ds in enumerate(made.slices(range(10))):
        ds.save_as(tmp_path / "classic" / f"{number}.dcm", enforce_file_format=True)
    made.enhanced([3, 1, 2, 0, *range(9, 3, -1)]).save_as(
        tmp_path / "enhanced.dcm", enforce_file_format=True
    )
    masks = []
    for name in ("classic", "enhanced.dcm"):
        analyses = analyze(models, tmp_path / name, tmp_path / "out")
        (found,) = (item for item in analyses if item.refusal is None)
        assert [dcmread(result).Modality for result in found.results[:2]] == ["SR", "SEG"]
        masks.append(nibabel.load(found.masks[0]))
    np.testing.assert_array_equal(masks[0].dataobj, masks[1].dataobj)
    np.testing.assert_allclose(masks[0].affine, masks[1].affine)


def test_colour_photograph_for_a_model_of_radiographs_is_refused_by_its_gate(
    tmp_path: Path,
) -> None:
    y, x = np.mgrid[0:300, 0:300] / 300
    photograph = np.stack([200 * x, 180 * y, 90 + 60 * np.sin(9 * x * y)], axis=2)
    Image.fromarray(photograph.astype(np.uint8)).save(tmp_path / "beach.png")
    (found,) = analyze(one_model(), tmp_path / "beach.png", tmp_path / "out", "cxr-pneumonia")
    assert found.refusal is not None
    assert found.refusal.code in {"OUT_OF_DISTRIBUTION", "QUALITY_BLURRED"}


def test_radiograph_saved_in_colour_is_analysed(tmp_path: Path) -> None:
    ds = chest_radiograph(3, consolidation=False)
    ds.save_as(tmp_path / "dx.dcm", enforce_file_format=True)
    Image.fromarray(read_image(tmp_path / "dx.dcm").display).convert("RGB").save(
        tmp_path / "dx.png"
    )
    (found,) = analyze(one_model(), tmp_path / "dx.png", tmp_path / "out", "cxr-pneumonia")
    assert found.refusal is None
