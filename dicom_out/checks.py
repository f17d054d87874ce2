"""The gate: every result is read again from its bytes and checked before it may be sent.

Required attributes come from highdicom's tables of PS3.3, references must lead to the analysed
images, Patient and Study must equal the source's.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

from highdicom._standard_utils import (
    get_iod_module_map,
    get_module_attribute_map,
    get_sop_class_iod_map,
)
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import BasicTextSRStorage

from dicom_out.check_geometry import check_geometry
from dicom_out.check_references import check_references
from dicom_out.check_report import check_algorithm, check_groups, check_predecessors
from dicom_out.check_sources import Sources
from dicom_out.codes import PROCESSING_EQUIPMENT
from dicom_out.errors import ResultCheckError
from dicom_out.model_result import Predecessor, ResultObject
from dicom_out.patient import first_difference
from dicom_out.uids import is_valid_uid

_BY_VALUE_TYPE = "sr-document-content"
"""The table has no conditions, and what this module requires depends on each item's value type."""

_EITHER = (("SharedFunctionalGroupsSequence",), ("PerFrameFunctionalGroupsSequence",))
"""What one of the two must have, the other must not (PS3.3 C.7.6.16)."""


def check_results(
    items: Sequence[ResultObject],
    headers: Sequence[Dataset],
    identity: Dataset,
    supersedes: Sequence[Predecessor] = (),
) -> None:
    """Read results from their bytes and check them.

    Parameters
    ----------
    items
        All results of a bundle with their bytes; they may refer to each other.
    headers
        Of all images that they may refer to.
    identity
        Patient and Study attributes that they must have.
    supersedes
        Earlier reports that a report must name as its predecessors.

    Raises
    ------
    ResultCheckError
        One is not what it must be; ``problem`` says which check failed.
    """
    with warnings.catch_warnings(action="ignore"):  # the source's values out of form, copied
        sources = Sources.of(headers, identity, items)
        for item in items:
            _check_result(item, sources, identity, supersedes)


def _check_result(
    item: ResultObject,
    sources: Sources,
    identity: Dataset,
    supersedes: Sequence[Predecessor],
) -> None:
    ds, uids = _read(item)
    _check_identifiers(ds, item)
    for keyword, value in uids:  # the source's own lead to it, right or wrong
        if value and value not in sources.uids and not is_valid_uid(value):
            raise ResultCheckError("UID_INVALID", f"{keyword} is no UID.")
    _check_attributes(ds)
    _check_identity(ds, sources, identity)
    maker = _check_maker(ds)
    check_references(ds, sources)
    if "ContentSequence" in ds:
        check_predecessors(ds, supersedes)
        check_algorithm(ds, maker)
        if ds.SOPClassUID != BasicTextSRStorage:  # a refusal, which measures nothing
            check_groups(ds, sources)
    elif "EncapsulatedDocument" in ds:
        _check_document(ds)
    else:
        _check_pixels(ds)
        check_geometry(ds, sources)


def _read(item: ResultObject) -> tuple[Dataset, set[tuple[str, str]]]:
    """Decode every element; return the data set, and keyword and value of each UID in it."""
    uids: set[tuple[str, str]] = set()
    try:
        ds = dcmread(io.BytesIO(item.data))
        for element in ds.iterall():
            if element.VR == "UI":
                values = [element.value] if element.VM <= 1 else element.value
                uids.update((element.keyword, str(value or "")) for value in values)
    except (InvalidDicomError, ValueError, TypeError, LookupError, EOFError) as error:
        raise ResultCheckError("UNREADABLE", "it can't be read again.") from error
    return ds, uids


def _check_identifiers(ds: Dataset, item: ResultObject) -> None:
    pairs = (
        ("SOPClassUID", item.sop_class_uid),
        ("SOPInstanceUID", item.sop_instance_uid),
        ("SeriesInstanceUID", item.series_instance_uid),
    )
    for keyword, expected in pairs:
        if ds.get(keyword) != expected:
            raise ResultCheckError("UID_MISMATCH", f"{keyword} is not the one that was announced.")
    meta = ds.file_meta
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    ):
        raise ResultCheckError("UID_MISMATCH", "its file meta information names another object.")


def _check_attributes(ds: Dataset) -> None:
    """Check that type 1 and 2 attributes of all mandatory modules are there (PS3.5 section 7.4)."""
    iod = get_sop_class_iod_map().get(str(ds.SOPClassUID))
    if iod is None:
        raise ResultCheckError("SOP_CLASS_UNKNOWN", "its SOP class is not in the tables.")
    modules = [row["key"] for row in get_iod_module_map()[iod] if row["usage"] == "M"]
    for module in modules:
        if module == _BY_VALUE_TYPE:
            continue
        for row in get_module_attribute_map()[module]:
            if row["type"] in ("1", "2") and tuple(row["path"]) not in _EITHER:
                _check_attribute(ds, row["path"], row["keyword"], is_filled=row["type"] == "1")


def _check_attribute(ds: Dataset, path: Sequence[str], keyword: str, *, is_filled: bool) -> None:
    """Check an attribute in each item that a path of sequences leads to, where they are present."""
    if path:
        for item in ds.get(path[0], ()):
            _check_attribute(item, path[1:], keyword, is_filled=is_filled)
    elif keyword not in ds:
        raise ResultCheckError("ATTRIBUTE_MISSING", f"{keyword} is missing.")
    elif is_filled and ds[keyword].is_empty:
        raise ResultCheckError("ATTRIBUTE_EMPTY", f"{keyword} is empty.")


def _check_maker(ds: Dataset) -> Dataset:
    """Check that it says which algorithm made it, by which weights, and that nobody verified it.

    Return the item that describes the algorithm.
    """
    makers = [
        item
        for item in ds.get("ContributingEquipmentSequence", ())
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == PROCESSING_EQUIPMENT.value
        and item.get("DeviceUID")
    ]
    if not makers:
        raise ResultCheckError("MAKER_MISSING", "it does not name the algorithm's Device UID.")
    if not ds.get("ContentQualification"):
        raise ResultCheckError("QUALIFICATION_MISSING", "it does not say that it is research.")
    if ds.get("VerificationFlag", "UNVERIFIED") != "UNVERIFIED":
        raise ResultCheckError("VERIFIED", "it claims that somebody verified it.")
    return makers[-1]


def _check_identity(ds: Dataset, sources: Sources, identity: Dataset) -> None:
    if {str(ds.StudyInstanceUID)} != sources.studies:
        raise ResultCheckError("STUDY_DIFFERS", "it is not in the study of its source.")
    if str(ds.SeriesInstanceUID) in sources.series:
        raise ResultCheckError("SERIES_NOT_NEW", "it would join the source's series.")
    keyword = first_difference(ds, identity)
    if keyword is not None:
        raise ResultCheckError("IDENTITY_DIFFERS", f"{keyword} is not the source's.")


def _check_document(ds: Dataset) -> None:
    """Check that the document is a whole PDF."""
    document = ds.EncapsulatedDocument[: ds.get("EncapsulatedDocumentLength", 0)]
    if not document.startswith(b"%PDF-") or not document.rstrip().endswith(b"%%EOF"):
        raise ResultCheckError("DOCUMENT_INCOMPLETE", "its document is no whole PDF.")


def _check_pixels(ds: Dataset) -> None:
    bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated
    size = -(-bits * int(ds.get("NumberOfFrames", 1)) // 8)
    if len(ds.PixelData) != size + size % 2:
        raise ResultCheckError(
            "PIXELS_INCOMPLETE", "its pixel data has another length than its size says."
        )
