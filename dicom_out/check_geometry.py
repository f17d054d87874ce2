"""A segmentation and a picture must lie where their sources lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom import Dataset

from dicom_out.check_sources import Sources
from dicom_out.errors import ResultCheckError
from dicom_out.patient import read_text, read_valid
from dicom_out.planes import read_geometry

_TOLERANCE = {
    "ImagePositionPatient": 1e-2,  # mm
    "ImageOrientationPatient": 2e-3,  # real slices repeat theirs with other rounding
    "PixelSpacing": 1e-3,  # mm
}


def check_geometry(ds: Dataset, sources: Sources) -> None:
    """Check a segmentation frame by frame, or the size and side of a picture.

    Raises
    ------
    ResultCheckError
        It lies elsewhere than its source.
    """
    if "SegmentSequence" in ds:
        _check_segmentation(ds, sources.images)
    else:
        _check_picture(ds, sources.images)


def _check_segmentation(ds: Dataset, known: dict[str, Dataset]) -> None:
    for number, group in enumerate(ds.PerFrameFunctionalGroupsSequence, 1):
        for derivation in group.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                source = known[str(item.ReferencedSOPInstanceUID)]
                frame = item.get("ReferencedFrameNumber")
                _check_frame(ds, number, source, None if frame is None else int(frame))


def _check_frame(ds: Dataset, number: int, source: Dataset, frame: int | None) -> None:
    if (ds.Rows, ds.Columns) != (source.Rows, source.Columns):
        raise ResultCheckError("GEOMETRY_DIFFERS", "its frames have another size than its source.")
    if read_text(ds, "FrameOfReferenceUID") != read_text(source, "FrameOfReferenceUID"):
        raise ResultCheckError("GEOMETRY_DIFFERS", "its frame of reference is not its source's.")
    for keyword, tolerance in _TOLERANCE.items():
        mine, its = read_geometry(ds, number, keyword), read_geometry(source, frame, keyword)
        if mine is None or its is None or not _close(mine, its, tolerance):
            raise ResultCheckError("GEOMETRY_DIFFERS", f"{keyword} of a frame is not its source's.")


def _close(mine: Sequence[float], its: Sequence[float], tolerance: float) -> bool:
    difference = np.asarray(mine, np.float64) - np.asarray(its, np.float64)
    return bool(np.abs(difference).max() <= tolerance)


def _check_picture(ds: Dataset, known: dict[str, Dataset]) -> None:
    shown = [known[str(item.ReferencedSOPInstanceUID)] for item in ds.SourceImageSequence]
    for source in shown:
        if ds.Rows < source.Rows or ds.Columns < source.Columns:
            raise ResultCheckError("GEOMETRY_DIFFERS", "it is smaller than its source.")
        side = "ImageLaterality" if read_valid(source, "ImageLaterality") else "Laterality"
        for keyword in ("PatientOrientation", side):
            stated = read_valid(source, keyword)
            if stated is not None and stated.value != ds.get(keyword):
                raise ResultCheckError("SIDE_DIFFERS", f"{keyword} is not its source's.")
