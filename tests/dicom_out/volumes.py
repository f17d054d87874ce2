"""Series of every geometry, with masks and where each voxel of them lies in the patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import EnhancedMRImageStorage

from dicom_out.model_result import VolumeResult
from dicom_out.volume import volume_to_dicom
from ledger.domain import Code, PatientFacts, Prediction, Segment, SegmentKind
from pacsight.samples import ct_series
from tests.dicom_out.factories import MODEL, NOW

Mask = NDArray[np.bool_]
ROWS, COLUMNS = 40, 56
PATIENT = PatientFacts(patient_id="V1", patient_name="Volume^Test", study_date="20260304")
LIVER = Segment(
    "Liver", Code("10200004", "SCT", "Liver"), np.zeros(0, bool), 1.0,
    SegmentKind(color=(221, 130, 101)),
)  # fmt: skip
LESION = Segment(
    "Lesion", Code("4147007", "SCT", "Mass"), np.zeros(0, bool), 1.0,
    SegmentKind(
        category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        region=Code("10200004", "SCT", "Liver"),
    ),
)  # fmt: skip


def oblique_affine(slice_mm: float = 3.5) -> NDArray[np.float64]:
    """(slice, row, column, 1) to LPS: turned round two axes, unequal spacing."""
    a, b = np.deg2rad(17), np.deg2rad(-33)
    turn = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = turn @ np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    affine = np.eye(4)
    affine[:3, 2], affine[:3, 1] = turn[:, 0] * 1.2, turn[:, 1] * 0.8
    affine[:3, 0], affine[:3, 3] = turn[:, 2] * slice_mm, [-31.25, 12.5, 77.75]
    return affine


def mr_series(slices: int = 9) -> list[FileDataset]:
    """An oblique MR series without pixel data."""
    array = np.zeros((slices, ROWS, COLUMNS), np.float32)
    made = volume_to_dicom(array, oblique_affine(), seed=f"mr{slices}", now=NOW, patient=PATIENT)
    for ds in made:
        ds.BodyPartExamined = "LIVER"
    return made


def enhanced_mr(slices: int = 9, phases: int = 2) -> tuple[FileDataset, tuple[int, ...]]:
    """One enhanced MR with geometry per frame, frames not in order, and every place several times.

    Returns the header and the frame number of each slice of the last phase.
    """
    series = mr_series(slices)
    ds = series[0].copy()
    ds.file_meta = series[0].file_meta
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedMRImageStorage
    places = [(phase, index) for index in range(slices) for phase in range(phases)]
    order = np.random.default_rng(5).permutation(len(places))
    ds.PerFrameFunctionalGroupsSequence = ItemSequence()
    for number in order:
        ds.PerFrameFunctionalGroupsSequence.append(_frame(series[places[number][1]]))
    ds.SharedFunctionalGroupsSequence = ItemSequence([Dataset()])
    ds.NumberOfFrames = len(places)
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        del ds[keyword]
    frames = [
        int(np.flatnonzero(order == places.index((phases - 1, index)))[0]) + 1
        for index in range(slices)
    ]
    return ds, tuple(frames)


def _frame(source: Dataset) -> Dataset:
    measures, orientation, position, group = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = source.PixelSpacing
    measures.SliceThickness = source.SliceThickness
    orientation.ImageOrientationPatient = source.ImageOrientationPatient
    position.ImagePositionPatient = source.ImagePositionPatient
    group.PixelMeasuresSequence = ItemSequence([measures])
    group.PlaneOrientationSequence = ItemSequence([orientation])
    group.PlanePositionSequence = ItemSequence([position])
    return group


def masks_of(slices: int, rows: int, columns: int) -> tuple[Mask, Mask]:
    """Two regions without symmetry that don't touch: an L that grows, and one of few voxels."""
    first, second = (np.zeros((slices, rows, columns), bool) for _ in range(2))
    for index in range(slices // 4, max(slices - 2, 1)):
        first[index, 5 : 9 + index, 6:11] = True
        first[index, 5:8, 6 : 20 + index] = True
    second[slices // 2, 30:33, 40:49] = True
    second[slices // 2, 31, 44] = False
    return first, second


def volume_result(
    sources: Sequence[Dataset], masks: Sequence[Mask], frames: tuple[int, ...] = ()
) -> VolumeResult:
    """What a model said of a series: a liver and a lesion."""
    segments = tuple(
        Segment(kind.label, kind.concept, mask, float(mask.sum()) / 1000, kind.kind)
        for kind, mask in zip((LIVER, LESION), masks, strict=False)
    )
    prediction = Prediction(
        model=MODEL.identity,
        sop_instance_uids=tuple(str(ds.SOPInstanceUID) for ds in sources),
        findings=(),
        heatmap=None,
        seconds=0.1,
        segments=segments,
    )
    return VolumeResult(prediction, tuple(sources), np.full(masks[0].shape, 90, np.uint8), frames)


def every_geometry() -> dict[str, VolumeResult]:
    """Straight, oblique, reversed, alone, in frames."""
    ct = ct_series(3, slices=7, rows=ROWS, columns=COLUMNS)
    mr, one = mr_series(), mr_series(1)
    enhanced, frames = enhanced_mr()
    return {
        "ct": volume_result(ct, masks_of(7, ROWS, COLUMNS)),
        "mr-oblique": volume_result(mr, masks_of(9, ROWS, COLUMNS)),
        "mr-reversed": volume_result(mr[::-1], masks_of(9, ROWS, COLUMNS)),
        "one-slice": volume_result(one, masks_of(1, ROWS, COLUMNS)),
        "enhanced-mr": volume_result([enhanced] * len(frames), masks_of(9, ROWS, COLUMNS), frames),
    }


def places(result: VolumeResult, mask: Mask) -> NDArray[np.float64]:
    """Return where a mask's voxels lie: [voxels, 3] in LPS mm, sorted."""
    found = []
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        source, frame = result.place_of(int(index))
        holder = source if frame is None else Dataset()
        if frame is not None:
            for sequence in source.PerFrameFunctionalGroupsSequence[frame - 1]:
                holder.update(sequence.value[0])
        cosines = np.array(holder.ImageOrientationPatient, np.float64)
        down, across = (float(value) for value in holder.PixelSpacing)
        rows, columns = np.nonzero(mask[index])
        corner = np.array(holder.ImagePositionPatient, np.float64)
        found.append(
            corner + np.outer(columns, cosines[:3] * across) + np.outer(rows, cosines[3:] * down)
        )
    return in_order(np.concatenate(found))


def in_order(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points in one order whatever order they came in."""
    rounded = np.round(points, 2) + 0.0
    return points[np.lexsort(rounded.T)]
