"""A volume without headers becomes a series that others read as the same volume."""

from __future__ import annotations

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_out.errors import PictureError
from dicom_out.volume import volume_to_dicom
from tests.dicom_out.factories import NOW

AFFINE = np.array([[0, 0, -2.0, 10], [0, 1.5, 0, -20], [3.0, 0, 0, 5], [0, 0, 0, 1]])


def ramp(scale: float = 1.0) -> NDArray[np.float32]:
    return np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6) * np.float32(scale)


@pytest.mark.parametrize("scale", [1.0, 0.0137, 1000.0])
def test_series_is_the_same_volume_again(scale: float) -> None:
    array = ramp(scale)
    series = volume_to_dicom(array, AFFINE, seed="s", now=NOW)
    seen = np.stack(
        [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in series]
    )
    np.testing.assert_allclose(seen, array, atol=scale * 120 / 65534)
    volume = highdicom.get_volume_from_series(series)
    # highdicom may order slices the other way round: compare where voxels lie in the patient
    for index in np.ndindex(volume.spatial_shape):
        place = volume.affine @ np.array([*index, 1.0])
        back = np.linalg.solve(AFFINE, place)[:3]
        stored = volume.array[index]
        assert stored == pytest.approx(array[tuple(np.rint(back).astype(int))], abs=scale / 100)


def test_whole_numbers_are_kept_as_they_are() -> None:
    series = volume_to_dicom(ramp() - 60, AFFINE, seed="s", now=NOW)
    assert series[0].RescaleSlope == 1
    assert series[0].pixel_array[0, 0] == -60


@pytest.mark.parametrize(
    "wrong", [np.zeros((0, 4, 4)), np.zeros((4, 4)), np.full((2, 2, 2), np.nan)]
)
def test_what_no_series_can_hold_is_refused(wrong: NDArray[np.float64]) -> None:
    with pytest.raises(PictureError):
        volume_to_dicom(wrong.astype(np.float32), AFFINE, seed="s", now=NOW)
