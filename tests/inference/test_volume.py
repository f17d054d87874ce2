"""Series and NIfTI files as volumes: order, geometry, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from pydicom.dataset import FileDataset

from inference.errors import NotAnImageError, NotAVolumeError
from inference.volume import Volume, read_nifti, read_series, to_canonical
from pacsight.samples import ct_series


def read(slices: list[FileDataset]) -> Volume:
    files = []
    for ds in slices:
        file = io.BytesIO()
        ds.save_as(file, enforce_file_format=True)
        file.seek(0)
        files.append(file)
    return read_series(files)


def test_slices_are_ordered_by_place_and_hold_hounsfield_units() -> None:
    slices = ct_series(2, slices=5, rows=32, columns=40)
    shuffled = [slices[index] for index in (3, 0, 4, 2, 1)]
    for ds in shuffled:
        ds.InstanceNumber = 100 - ds.InstanceNumber  # says nothing
    volume = read(shuffled)
    reference = highdicom.get_volume_from_series(ct_series(2, slices=5, rows=32, columns=40))
    corners = [np.array([z, y, x, 1.0]) for z in (0, 4) for y in (0, 31) for x in (0, 39)]
    back = np.linalg.inv(reference.affine)
    for corner in corners:
        index = np.rint(back @ volume.affine @ corner)[:3].astype(int)
        z, y, x = corner[:3].astype(int)
        assert volume.array[z, y, x] == reference.array[tuple(index)]
    assert volume.spacing_mm == pytest.approx((5, 350 / 32, 350 / 40), rel=1e-3)
    heights = [float(header.ImagePositionPatient[2]) for header in volume.headers]
    assert heights == sorted(heights)


def _cut(slices: list[FileDataset]) -> None:
    del slices[2]


def _double(slices: list[FileDataset]) -> None:
    slices[2].ImagePositionPatient = slices[1].ImagePositionPatient


def _turn(slices: list[FileDataset]) -> None:
    slices[1].ImageOrientationPatient = [0, 1, 0, -1, 0, 0]


def _move(slices: list[FileDataset]) -> None:
    slices[1].FrameOfReferenceUID = "1.2.3"


def _stretch(slices: list[FileDataset]) -> None:
    slices[1].PixelSpacing = [1, 1]


def _shear(slices: list[FileDataset]) -> None:
    for number, ds in enumerate(slices):
        ds.ImagePositionPatient = [-175, -175 + 2 * number, -5 * number]


def _strip(slices: list[FileDataset]) -> None:
    del slices[1].ImagePositionPatient


def _shrink(slices: list[FileDataset]) -> None:
    slices[1] = ct_series(2, slices=5, rows=16, columns=16)[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_cut, "evenly spaced"),
        (_double, "at one place"),
        (_turn, "not parallel"),
        (_move, "frames of reference"),
        (_stretch, "pixel spacings"),
        (_shear, "sheared"),
        (_strip, "ImagePositionPatient"),
        (_shrink, "different sizes"),
    ],
)
def test_slices_that_make_no_volume_are_refused(
    change: Callable[[list[FileDataset]], None], reason: str
) -> None:
    slices = ct_series(2, slices=5, rows=32, columns=40)
    change(slices)
    with pytest.raises(NotAVolumeError, match=reason):
        read(slices)


def test_nifti_becomes_lps(tmp_path: Path) -> None:
    values = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    ras = np.array([[2.0, 0, 0, -7], [0, 3.0, 0, 5], [0, 0, 4.0, 1], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, ras), tmp_path / "v.nii.gz")
    volume = read_nifti(tmp_path / "v.nii.gz")
    assert volume.array.shape == (4, 3, 2)
    assert volume.array[3, 2, 1] == values[1, 2, 3]
    place = volume.affine @ [3, 2, 1, 1]
    np.testing.assert_allclose(place[:3], [-(2 - 7), -(3 * 2 + 5), 4 * 3 + 1])
    assert volume.spacing_mm == (4, 3, 2)
    assert volume.voxel_ml == pytest.approx(0.024)


@pytest.mark.parametrize(
    "values", [np.zeros((4, 4)), np.zeros((4, 4, 4, 2)), np.full((3, 3, 3), np.nan)]
)
def test_nifti_that_is_no_volume_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(NotAVolumeError):
        read_nifti(tmp_path / "v.nii")


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\x1f\x8b\x08\x00 cut"])
def test_damaged_nifti_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.nii.gz"
    path.write_bytes(content)
    with pytest.raises(NotAnImageError):
        read_nifti(path)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, 1)])
def test_every_orientation_becomes_the_same_and_back(
    axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    shape = (4, 5, 6)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * (column + 1.0)
    volume = Volume(np.random.default_rng(0).random(shape).astype(np.float32), affine)
    canonical, restore = to_canonical(volume)
    directions = canonical.affine[:3, :3]
    assert np.argmax(np.abs(directions), axis=0).tolist() == [
        2,
        1,
        0,
    ]
    assert (directions.sum(axis=0) > 0).all()
    for index in [(0, 0, 0), (3, 4, 5), (1, 2, 3)]:
        place = volume.affine @ np.array([*index, 1.0])
        turned = np.rint(np.linalg.solve(canonical.affine, place))[:3].astype(int)
        assert canonical.array[tuple(turned)] == volume.array[index]
    np.testing.assert_array_equal(restore(canonical.array > 0.5), volume.array > 0.5)
