"""References of a result must lead to what was analysed, or to what is sent together with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_out.check_sources import Sources
from dicom_out.errors import ResultCheckError

PREDECESSORS = "PredecessorDocumentsSequence"
_REFERENCES = ("ReferencedSOPSequence", "SourceImageSequence", "SourceInstanceSequence")
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def check_references(ds: Dataset, sources: Sources) -> None:
    """Check that every referenced object and frame is there, and in a report's evidence.

    Raises
    ------
    ResultCheckError
        A reference leads nowhere, or the evidence leaves one out.
    """
    items = list(_references(ds))
    if not items:
        raise ResultCheckError("REFERENCE_MISSING", "it refers to no image.")
    for item in items:
        if reference(item) not in sources.references:
            raise ResultCheckError("REFERENCE_UNKNOWN", "it refers to what was not analysed.")
        numbers = item.get("ReferencedFrameNumber") or 0
        highest = max(numbers) if isinstance(numbers, Sequence) else int(numbers)
        if highest > sources.frames.get(str(item.ReferencedSOPInstanceUID), 1):
            raise ResultCheckError("FRAME_UNKNOWN", "it refers to a frame that is not there.")
    if "ContentSequence" in ds and {reference(item) for item in items} - _evidence(ds):
        raise ResultCheckError("EVIDENCE_INCOMPLETE", "its evidence leaves out what it refers to.")


def reference(item: Dataset) -> tuple[str, str]:
    """Return SOP Class and Instance UID that an item refers to."""
    return str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)


def _evidence(ds: Dataset) -> set[tuple[str, str]]:
    return {
        reference(item)
        for keyword in _EVIDENCE
        for study in ds.get(keyword, ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def _references(ds: Dataset) -> Iterator[Dataset]:
    """Yield the items of whatever is referred to, but for predecessors."""
    for element in ds:
        if element.VR != "SQ" or element.keyword == PREDECESSORS:
            continue
        for item in element.value:
            if element.keyword in _REFERENCES:
                yield item
            yield from _references(item)
