"""The gate: every result is read again from its bytes and checked before it may be sent.

Required attributes come from highdicom's tables of PS3.3, references must lead to the analysed
images, Patient and Study must equal the source's.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_out.codes import IMAGING_MEASUREMENTS
from dicom_out.errors import ResultCheckError
from dicom_out.model_result import Predecessor, ResultObject
from dicom_out.patient import first_difference
from dicom_out.uids import is_valid_uid

_BY_VALUE_TYPE = "sr-document-content"
"""The table has no conditions, and what this module requires depends on each item's value type."""

_IDENTIFYING = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_PREDECESSORS = "PredecessorDocumentsSequence"
_REFERENCES = ("ReferencedSOPSequence", "SourceImageSequence", "SourceInstanceSequence")
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def check_result(
    item: ResultObject,
    sources: Sequence[Dataset],
    identity: Dataset,
    siblings: Sequence[ResultObject] = (),
    supersedes: Sequence[Predecessor] = (),
) -> Dataset:
    """Read a result from its bytes, check it, and return it as read.

    Parameters
    ----------
    item
        The result with its bytes.
    sources
        Headers of all images that it may refer to.
    identity
        Patient and Study attributes that it must have.
    siblings
        Results that are sent together with it, and to which it may refer.
    supersedes
        Earlier reports that a report must name as its predecessors.

    Raises
    ------
    ResultCheckError
        It is not what it must be; ``problem`` says which check failed.
    """
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        ds = _read(item)
        _check_identifiers(ds, item)
        _check_uids(ds, sources, identity)
        _check_attributes(ds)
        _check_identity(ds, sources, identity)
        known = {(str(source.SOPClassUID), str(source.SOPInstanceUID)) for source in sources}
        known |= {(sibling.sop_class_uid, sibling.sop_instance_uid) for sibling in siblings}
        _check_references(ds, known)
        if "ContentSequence" in ds:
            _check_coordinates(ds)
            _check_predecessors(ds, supersedes)
        elif "EncapsulatedDocument" in ds:
            _check_document(ds)
        else:
            _check_pixels(ds)
    return ds


def _fail(problem: str, message: str) -> None:
    raise ResultCheckError(problem, f"A result was not sent: {message}")


def _read(item: ResultObject) -> Dataset:
    try:
        ds = dcmread(io.BytesIO(item.data))
        for _ in ds.iterall():  # decode every element
            pass
    except (InvalidDicomError, ValueError, TypeError, LookupError, EOFError) as error:
        message = "A result was not sent: it can't be read again."
        raise ResultCheckError("UNREADABLE", message) from error
    return ds


def _check_uids(ds: Dataset, sources: Sequence[Dataset], identity: Dataset) -> None:
    """Check the form of every UID but the source's own: those lead to it, right or wrong."""
    given = {value for _, value in _uids(identity)}
    given |= {str(source[keyword].value) for source in sources for keyword in _IDENTIFYING}
    for keyword, value in _uids(ds):
        if value and value not in given and not is_valid_uid(value):
            _fail("UID_INVALID", f"{keyword} is no UID.")


def _uids(ds: Dataset) -> Iterator[tuple[str, str]]:
    for element in ds.iterall():
        if element.VR == "UI":
            for value in [element.value] if element.VM <= 1 else element.value:
                yield element.keyword, str(value or "")


def _check_identifiers(ds: Dataset, item: ResultObject) -> None:
    pairs = (
        ("SOPClassUID", item.sop_class_uid),
        ("SOPInstanceUID", item.sop_instance_uid),
        ("SeriesInstanceUID", item.series_instance_uid),
    )
    for keyword, expected in pairs:
        if ds.get(keyword) != expected:
            _fail("UID_MISMATCH", f"{keyword} is not the one that was announced.")
    meta = ds.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    ):
        _fail("UID_MISMATCH", "its file meta information names another object.")


def _check_attributes(ds: Dataset) -> None:
    """Check that type 1 and 2 attributes of all mandatory modules are there (PS3.5 section 7.4)."""
    iod = get_sop_class_iod_map().get(str(ds.SOPClassUID))
    if iod is None:
        _fail("SOP_CLASS_UNKNOWN", "its SOP class is not in the tables of the standard.")
    modules = [row["key"] for row in get_iod_module_map()[iod] if row["usage"] == "M"]
    modules = [module for module in modules if module != _BY_VALUE_TYPE]
    for module in modules:
        for row in get_module_attribute_map()[module]:
            if row["path"] or row["type"] not in ("1", "2"):
                continue
            keyword = row["keyword"]
            if keyword not in ds:
                _fail("ATTRIBUTE_MISSING", f"{keyword} is missing.")
            if row["type"] == "1" and ds[keyword].is_empty:
                _fail("ATTRIBUTE_EMPTY", f"{keyword} is empty.")


def _check_identity(ds: Dataset, sources: Sequence[Dataset], identity: Dataset) -> None:
    for source in sources:
        if ds.StudyInstanceUID != source.StudyInstanceUID:
            _fail("STUDY_DIFFERS", "it is not in the study of its source.")
        if ds.SeriesInstanceUID == source.SeriesInstanceUID:
            _fail("SERIES_NOT_NEW", "it would join the source's series.")
    keyword = first_difference(ds, identity)
    if keyword is not None:
        _fail("IDENTITY_DIFFERS", f"{keyword} is not the source's.")


def _check_references(ds: Dataset, known: set[tuple[str, str]]) -> None:
    """Check that every referenced image was analysed, and is in a report's evidence."""
    found = list(_references(ds))
    if not found:
        _fail("REFERENCE_MISSING", "it refers to no image.")
    for reference in found:
        if reference not in known:
            _fail("REFERENCE_UNKNOWN", "it refers to an image that was not analysed.")
    if "ContentSequence" in ds:
        listed = {
            _reference(item)
            for keyword in _EVIDENCE
            for study in ds.get(keyword, ())
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        if set(found) - listed:
            _fail("EVIDENCE_INCOMPLETE", "its evidence leaves out an image that it refers to.")


def _references(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Yield class and instance of whatever is referred to, but for predecessors."""
    for element in ds:
        if element.VR != "SQ" or element.keyword == _PREDECESSORS:
            continue
        for item in element.value:
            if element.keyword in _REFERENCES:
                yield _reference(item)
            yield from _references(item)


def _check_predecessors(ds: Dataset, supersedes: Sequence[Predecessor]) -> None:
    """Check that the report supersedes what it is said to, and nothing else."""
    named = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), *_reference(item))
        for study in ds.get(_PREDECESSORS, ())
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
        _fail("PREDECESSOR_DIFFERS", "it does not name the reports that it supersedes.")


def _reference(item: Dataset) -> tuple[str, str]:
    return str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)


def _check_coordinates(ds: Dataset) -> None:
    """Check that each measurement group has a region; viewers show no report without."""
    if ds.VerificationFlag != "UNVERIFIED":
        _fail("VERIFIED", "it claims that somebody verified it.")
    groups = [
        group
        for item in ds.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == IMAGING_MEASUREMENTS.value
        for group in item.ContentSequence
    ]
    if not groups:
        _fail("MEASUREMENTS_MISSING", "its report holds no measurement group.")
    for group in groups:
        if not any(_has_region(item) for item in group.ContentSequence):
            _fail("COORDINATES_MISSING", "a measurement group has no region.")


def _has_region(item: Dataset) -> bool:
    """Tell whether an item is a region, or a measurement inferred from one (TID 300)."""
    if item.ValueType == "SCOORD":
        return True
    inferred = item.get("ContentSequence", ()) if item.ValueType == "NUM" else ()
    return any(inner.ValueType == "SCOORD" for inner in inferred)


def _check_document(ds: Dataset) -> None:
    """Check that the document is a whole PDF."""
    document = ds.EncapsulatedDocument[: ds.get("EncapsulatedDocumentLength", 0)]
    if not document.startswith(b"%PDF-") or not document.rstrip().endswith(b"%%EOF"):
        _fail("DOCUMENT_INCOMPLETE", "its document is no whole PDF.")


def _check_pixels(ds: Dataset) -> None:
    bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated
    size = -(-bits * int(ds.get("NumberOfFrames", 1)) // 8)
    if len(ds.PixelData) != size + size % 2:
        _fail("PIXELS_INCOMPLETE", "its pixel data has another length than its size says.")
