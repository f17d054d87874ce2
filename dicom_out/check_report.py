"""What only a structured report has: groups with places and numbers, and its predecessors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_out.check_references import PREDECESSORS, reference
from dicom_out.check_sources import Sources
from dicom_out.codes import IMAGING_MEASUREMENTS
from dicom_out.errors import ResultCheckError
from dicom_out.model_result import Predecessor

_REPEATED = {
    "121012": "DeviceUID",  # Device Observer UID
    "121014": "Manufacturer",  # Device Observer Manufacturer
    "121015": "ManufacturerModelName",  # Device Observer Model Name
    "111001": "ManufacturerModelName",  # Algorithm Name
    "111003": "SoftwareVersions",  # Algorithm Version
}
"""Content items, and attributes of Contributing Equipment that they repeat: IHE AI Results
Rev. 1.3, table 6.5.3.1-1."""

_TRACKING = {"112039", "112040"}  # Tracking Identifier, Tracking Unique Identifier


def check_groups(ds: Dataset, sources: Sources) -> None:
    """Check the measurement groups of a report.

    Raises
    ------
    ResultCheckError
        A group lacks its region, which viewers need, or its tracking UID; a region lies outside its
        image; or a number is none.
    """
    groups = [
        group
        for item in ds.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == IMAGING_MEASUREMENTS.value
        for group in item.ContentSequence
    ]
    if not groups:
        raise ResultCheckError("MEASUREMENTS_MISSING", "its report holds no measurement group.")
    for group in groups:
        names = {item.ConceptNameCodeSequence[0].CodeValue for item in group.ContentSequence}
        if not names >= _TRACKING:
            raise ResultCheckError("TRACKING_MISSING", "a measurement group can't be tracked.")
        regions = [item for item in _items(group) if item.ValueType == "SCOORD"]
        if not regions:
            raise ResultCheckError("COORDINATES_MISSING", "a measurement group has no region.")
        for region in regions:
            _check_region(region, sources.images)
        for item in _items(group):
            if item.ValueType == "NUM":
                _check_number(item)


def _items(item: Dataset) -> Iterator[Dataset]:
    """Yield all content items below one."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def _check_region(region: Dataset, images: dict[str, Dataset]) -> None:
    """Check that all points lie on the image that they were selected from (PS3.3 C.18.6)."""
    (image,) = region.ContentSequence
    source = images[str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)]
    points = [float(value) for value in region.GraphicData]
    pairs = list(zip(points[::2], points[1::2], strict=True))
    if not pairs or not all(0 <= x <= source.Columns and 0 <= y <= source.Rows for x, y in pairs):
        raise ResultCheckError("REGION_OUTSIDE", "a region lies outside its image.")


def _check_number(item: Dataset) -> None:
    (measured,) = item.MeasuredValueSequence
    value = float(measured.NumericValue)
    if not math.isfinite(value) or value < 0:
        raise ResultCheckError("NUMBER_INVALID", "a measurement is no number from 0 on.")


def check_algorithm(ds: Dataset, maker: Dataset) -> None:
    """Check that whatever names the algorithm in a report says the same as its equipment.

    Raises
    ------
    ResultCheckError
        It does not.
    """
    for item in _items(ds):
        keyword = _REPEATED.get(item.ConceptNameCodeSequence[0].CodeValue)
        if keyword is not None:
            said = str(item.get("TextValue") or item.get("UID"))
            if said.strip() != str(maker[keyword].value).strip():
                raise ResultCheckError("MAKER_DIFFERS", f"it names another {keyword} in its text.")


def check_predecessors(ds: Dataset, supersedes: Sequence[Predecessor]) -> None:
    """Check that the report supersedes what it is said to, and nothing else.

    Raises
    ------
    ResultCheckError
        It does not.
    """
    named = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), *reference(item))
        for study in ds.get(PREDECESSORS, ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    meant = {
        (
            str(ds.StudyInstanceUID),
            earlier.series_instance_uid,
            earlier.sop_class_uid,
            earlier.sop_instance_uid,
        )
        for earlier in supersedes
    }
    if named != meant:
        raise ResultCheckError("PREDECESSOR_DIFFERS", "it names other reports than it supersedes.")
