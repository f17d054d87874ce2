"""Voxels of a segmentation lie where the voxels of the source were put, to 0.01 mm."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from scipy.spatial.transform import Rotation

from dicom_out.model_result import ModelDescription, VolumeResult
from dicom_out.results import encode_volume
from inference.volume import read_series
from ledger.domain import Code, ModelIdentity, Prediction, Segment
from tests.inference.factories import stream
from tests.inference.stacks import StackMade

MODEL = ModelIdentity("toy", "1.0.0", "0" * 64, "Toy")
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def places_of(segmentation: Dataset) -> np.ndarray:
    """Return the places of all voxels that are set, [N, 3] in mm, by the object's own geometry."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    down, across = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64)
    found = []
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for group, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, frames, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, np.float64)
        rows, columns = np.nonzero(frame)
        found.append(
            corner + np.outer(columns * across, cosines[:3]) + np.outer(rows * down, cosines[3:])
        )
    return np.concatenate(found)


@pytest.mark.parametrize("is_enhanced", [False, True])
@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
@pytest.mark.parametrize("direction", [1, -1], ids=["in order", "reversed"])
def test_voxels_of_a_segmentation_lie_where_they_were_put(
    axes: np.ndarray, direction: int, *, is_enhanced: bool
) -> None:
    made = StackMade(axes=axes, spacing_mm=(2.5, 0.7, 0.9), corner_mm=(-31.25, 44.5, 107.75))
    order = [0, 3, 1, 4, 2][::direction]
    objects = [made.enhanced(order)] if is_enhanced else made.slices(order)
    volume = read_series([stream(ds) for ds in objects])
    mask = made.values > 2000
    segment = Segment("Heart", Code("80891009", "SCT", "Heart"), mask, 1.0)
    prediction = Prediction(MODEL, volume.sop_instance_uids, (), None, 0.1, segments=(segment,))
    objects = encode_volume(
        VolumeResult(prediction, volume.headers, volume.display, volume.frame_numbers),
        model=ModelDescription(MODEL, "Tests only", "For research use only"),
        seed="places",
        now=datetime(2026, 1, 2, tzinfo=UTC),
    )
    (data,) = (item.data for item in objects if item.kind == "seg")
    places = places_of(dcmread(DicomBytesIO(data)))
    wanted = [(made.affine @ [*index, 1])[:3] for index in np.argwhere(mask)]
    assert len(places) == len(wanted)
    distances = np.linalg.norm(places[:, np.newaxis] - np.array(wanted)[np.newaxis], axis=2)
    assert distances.min(axis=0).max() < 0.01
    assert distances.min(axis=1).max() < 0.01
