"""The planes of a series as highdicom wants to see its sources: everything about the grid, no more.

Real headers lack what highdicom insists on, or repeat an orientation with other rounding on each
slice; an enhanced image may hold frames that were not analysed, and its geometry per frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence

from dicom_out.errors import ResultInputError
from dicom_out.model_result import VolumeResult
from dicom_out.patient import REQUIRED, read_element, read_text

_GEOMETRY = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
_GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
}
"""Where enhanced images hold what others have at the top (PS3.3 C.7.6.16.2)."""


def plane_headers(result: VolumeResult) -> list[Dataset]:
    """Return headers of the grid of a series: one a slice, or one with a frame a slice.

    Raises
    ------
    ResultInputError
        A slice lacks its spacing, orientation or position.
    """
    planes = [_plane(*result.place_of(index)) for index in range(len(result.display))]
    first = planes[0]
    for plane in planes:
        plane.ImageOrientationPatient = first.ImageOrientationPatient
        plane.PixelSpacing = first.PixelSpacing
    if "SliceThickness" not in first:
        first.SliceThickness = _distance(planes)
    return [_multi_frame(result, planes)] if result.frames else planes


def _plane(source: Dataset, frame: int | None) -> Dataset:
    plane = Dataset()
    for keyword in REQUIRED:  # names and dates follow with the identity
        setattr(plane, keyword, "")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(plane, keyword, source[keyword].value)
    plane.Modality = read_text(source, "Modality")
    plane.Rows, plane.Columns = source.Rows, source.Columns
    for keyword in ("FrameOfReferenceUID", "PositionReferenceIndicator", "LossyImageCompression"):
        if read_text(source, keyword):
            setattr(plane, keyword, source[keyword].value)
    for keyword in _GROUPS:
        value = read_geometry(source, frame, keyword)
        if value is not None:
            setattr(plane, keyword, value)
    if any(keyword not in plane for keyword in _GEOMETRY):
        raise ResultInputError("A slice has no place in the patient to put a segmentation on.")
    return plane


def read_geometry(source: Dataset, frame: int | None, keyword: str) -> Any:
    """Return an attribute of an image's grid, or None.

    Parameters
    ----------
    source
        Header of the image.
    frame
        Number of the frame, from 1, of an enhanced multi-frame image; None is the first.
    keyword
        Such as ``PixelSpacing``; looked for in the functional groups of the frame, of all frames
        (PS3.3 C.7.6.16.2), and in the header.
    """
    holders = []
    for name, position in (
        ("PerFrameFunctionalGroupsSequence", (frame or 1) - 1),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        groups = read_element(source, name)
        if groups is not None and groups.VR == "SQ" and position < len(groups.value):
            holders += list(groups.value[position].get(_GROUPS[keyword], ()))[:1]
    for holder in (*holders, source):
        element = read_element(holder, keyword)
        if element is not None and not element.is_empty:
            return element.value
    return None


def _distance(planes: list[Dataset]) -> float | None:
    """Return the distance of neighbouring slices in mm; None of a single one."""
    if len(planes) < 2:
        return None
    ends = (np.array(plane.ImagePositionPatient, np.float64) for plane in (planes[0], planes[-1]))
    first, last = ends
    return float(np.linalg.norm(last - first)) / (len(planes) - 1)


def _multi_frame(result: VolumeResult, planes: list[Dataset]) -> Dataset:
    """Return one header with a frame for each plane, all in the shared geometry of the first."""
    header, first = planes[0], planes[0]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
        if first.get(keyword) is not None:
            setattr(measures, keyword, first[keyword].value)
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    shared.PixelMeasuresSequence = ItemSequence([measures])
    shared.PlaneOrientationSequence = ItemSequence([orientation])
    per_frame = ItemSequence()
    for plane in planes:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = plane.ImagePositionPatient
        group.PlanePositionSequence = ItemSequence([position])
        per_frame.append(group)
    header.NumberOfFrames = len(result.frames)
    header.SharedFunctionalGroupsSequence = ItemSequence([shared])
    header.PerFrameFunctionalGroupsSequence = per_frame
    return header
