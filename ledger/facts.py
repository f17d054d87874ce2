"""Reading the facts of a DICOM header, however broken it is.

Values are decoded here from the raw elements, not by pydicom's converters: those trust the VR and
raise many kinds of errors, where one wrong attribute must not cost the whole object. What can't be
understood is absent. Nothing here looks at pixels.
"""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal

from pydicom import DataElement, Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence as ItemSequence
from pydicom.tag import BaseTag, Tag

from ledger.domain import InstanceFacts, PatientFacts
from ledger.errors import UidInvalidError, UidMissingError
from ledger.functional_groups import first_frame_items, first_item
from ledger.patient_age import years_of
from ledger.product import PRODUCT

MAX_TEXT = 512
"""Longest text kept, in characters: 4 times that in bytes still fits a PostgreSQL index entry."""

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_UID = re.compile(r"[0-9.]{1,64}")  # PS3.5 section 9.1; leading zeros are common and harmless
_INT = re.compile(r"[ ]*([+-]?[0-9]{1,12})(?:\.0*)?[ ]*")  # IS, and DS by mistake
_ESCAPE = re.compile(r"\x1b(?:\$?[()-][A-Z]|\$B)")  # PS3.3 tables C.12-3, C.12-4; if left over
_BINARY_INTS = {"US": (2, False), "SS": (2, True), "UL": (4, False), "SL": (4, True)}
# Back to the first character set after these: PS3.5 section 6.1.2.5.3
_DELIMITERS = set(b"\t\n\f\r\\^=")
_INT32 = range(-(2**31), 2**31)  # the range of IS, PS3.5 table 6.2-1


def read_facts(ds: Dataset) -> tuple[InstanceFacts, PatientFacts]:
    """Return what completeness, routing and people need to know of a header.

    Names are decoded by Specific Character Set, code extensions included. Of several values where
    the standard allows one the first counts. Control characters are removed (PostgreSQL takes no
    NUL), text is cut at `MAX_TEXT` characters, numbers out of range are 0.

    Parameters
    ----------
    ds
        A data set as read; ``file_meta`` names the transfer syntax if it is there. Pixel data may
        have been left out, but then `InstanceFacts.has_pixel_data` is for the caller to set.

    Raises
    ------
    UidMissingError, UidInvalidError
        The study, series, instance or class can't be told.
    """
    with warnings.catch_warnings(action="ignore"):  # pydicom on unknown character sets
        header = _Header(ds)
        patient = _patient_facts(header)
        return _instance_facts(header, ds, patient), patient


def numbers_of(ds: Dataset, keyword: str, count: int) -> tuple[float, ...]:
    """Return the decimal numbers of an attribute, or ``()`` unless there are `count` of them."""
    return _decimals([_Header(ds)], keyword, count)


def read_text_value(ds: Dataset, keyword: str) -> str:
    """Return the first value of a text attribute of any data set, decoded, or ``""``."""
    with warnings.catch_warnings(action="ignore"):
        return _Header(ds).text(keyword)


def read_number(ds: Dataset, keyword: str) -> int:
    """Return a whole number of any data set, or 0."""
    return _Header(ds).number(keyword)


def is_result(ds: Dataset) -> bool:
    """Whether a header shows a result of Pacsight's, made by this installation or another.

    Its samples and the pictures it wraps into DICOM have the same Manufacturer, but no software
    version of the analysis.
    """
    with warnings.catch_warnings(action="ignore"):
        header = _Header(ds)
        versions = header.texts("SoftwareVersions")
        return header.text("Manufacturer") == PRODUCT and any(
            version.startswith(f"{PRODUCT.lower()} ") for version in versions
        )


def _instance_facts(header: _Header, ds: Dataset, patient: PatientFacts) -> InstanceFacts:
    meta = getattr(ds, "file_meta", None)
    frame = [header, *(_Header(item) for item in first_frame_items(ds))]
    request = first_item(ds, "RequestAttributesSequence")
    requests = [] if request is None else [_Header(request)]
    age = header.text("PatientAge")
    return InstanceFacts(
        study_instance_uid=header.uid("StudyInstanceUID"),
        series_instance_uid=header.uid("SeriesInstanceUID"),
        sop_instance_uid=header.uid("SOPInstanceUID"),
        sop_class_uid=header.uid("SOPClassUID"),
        transfer_syntax_uid="" if meta is None else _Header(meta).text("TransferSyntaxUID")[:64],
        modality=header.text("Modality"),
        body_part_examined=header.text("BodyPartExamined"),
        view_position=header.text("ViewPosition"),
        series_description=header.text("SeriesDescription"),
        series_number=header.number("SeriesNumber"),
        instance_number=header.number("InstanceNumber"),
        image_type=header.texts("ImageType"),
        photometric_interpretation=header.text("PhotometricInterpretation"),
        samples_per_pixel=header.number("SamplesPerPixel"),
        bits_stored=header.number("BitsStored"),
        bits_allocated=header.number("BitsAllocated"),
        rows=header.number("Rows"),
        columns=header.number("Columns"),
        number_of_frames=header.number("NumberOfFrames"),
        has_pixel_data=any(keyword in ds for keyword in PIXEL_KEYWORDS),
        burned_in_annotation=header.text("BurnedInAnnotation"),
        manufacturer=header.text("Manufacturer"),
        patient_age=age,
        patient_sex=patient.patient_sex,
        patient_age_years=years_of(age, patient.patient_birth_date, patient.study_date),
        acquisition_number=header.number("AcquisitionNumber"),
        echo_number=header.number("EchoNumbers"),
        temporal_position=header.number("TemporalPositionIdentifier"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID")[:64],
        image_position=_decimals(frame, "ImagePositionPatient", 3),
        image_orientation=_decimals(frame, "ImageOrientationPatient", 6),
        pixel_spacing_mm=_decimals(frame, "PixelSpacing", 2),
        slice_thickness_mm=sum(_decimals(frame, "SliceThickness", 1)),
        contrast_agent=_first_text(frame, "ContrastBolusAgent"),
        convolution_kernel=_first_text(frame, "ConvolutionKernel"),
        images_in_acquisition=header.number("ImagesInAcquisition"),
        number_of_temporal_positions=header.number("NumberOfTemporalPositions"),
        number_of_study_related_series=header.number("NumberOfStudyRelatedSeries"),
        number_of_study_related_instances=header.number("NumberOfStudyRelatedInstances"),
        number_of_series_related_instances=header.number("NumberOfSeriesRelatedInstances"),
        concatenation_uid=header.text("ConcatenationUID")[:64],
        in_concatenation_total_number=header.number("InConcatenationTotalNumber"),
        requested_procedure_priority=_first_text(frame, "RequestedProcedurePriority"),
        performed_procedure_step_start_date=header.text("PerformedProcedureStepStartDate"),
        performed_procedure_step_start_time=header.text("PerformedProcedureStepStartTime"),
        scheduled_procedure_step_id=_first_text(requests, "ScheduledProcedureStepID"),
        requested_procedure_id=_first_text(requests, "RequestedProcedureID"),
    )


def _decimals(places: Sequence[_Header], keyword: str, count: int) -> tuple[float, ...]:
    """Return the numbers of an attribute where it is first complete, or ``()``."""
    for place in places:
        try:
            values = tuple(float(text) for text in place.texts(keyword))
        except ValueError:
            continue
        if len(values) == count and all(math.isfinite(value) for value in values):
            return values
    return ()


def _first_text(places: Sequence[_Header], keyword: str) -> str:
    return next((text for place in places if (text := place.text(keyword))), "")


def _patient_facts(header: _Header) -> PatientFacts:
    return PatientFacts(
        patient_id=header.text("PatientID"),
        patient_name=header.text("PatientName"),
        patient_birth_date=header.text("PatientBirthDate"),
        patient_sex=header.text("PatientSex"),
        accession_number=header.text("AccessionNumber"),
        study_date=header.text("StudyDate"),
        study_time=header.text("StudyTime"),
        study_description=header.text("StudyDescription"),
        study_id=header.text("StudyID"),
        referring_physician_name=header.text("ReferringPhysicianName"),
    )


class _Header:
    """Forgiving access to the top level of a data set."""

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds
        self._encodings: Sequence[str] = ("ascii",)  # PS3.3 C.12.1.1.2: ISO-IR 6 if absent
        declared = list(self.texts("SpecificCharacterSet"))
        if declared:
            with suppress(LookupError, ValueError):  # names that no codec can have
                self._encodings = convert_encodings(declared)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return all values as clean text; empty values stay in their place."""
        element = self._element(keyword)
        if isinstance(element, RawDataElement):
            text = _decode(element.value or b"", self._encodings)
        elif element is None or isinstance(element.value, ItemSequence):
            return ()
        else:
            text = _join(element.value, self._encodings)
        values = tuple(_clean(value) for value in text.split("\\"))
        return values if any(values) else ()

    def text(self, keyword: str) -> str:
        """Return the first value that isn't empty, or ``""``."""
        return next((value for value in self.texts(keyword) if value), "")

    def number(self, keyword: str) -> int:
        """Return the first value as a whole number, or 0."""
        element = self._element(keyword)
        if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
            vr = _BINARY_INTS.get(element.VR or "")
            if element.VR in (None, "UN") and len(element.value) == 2:
                vr = _BINARY_INTS["US"]  # all numbers that we read are IS, or US of one value
            if vr is not None:
                size, signed = vr
                order: Literal["little", "big"] = "little" if element.is_little_endian else "big"
                return int.from_bytes(element.value[:size], order, signed=signed)
        match = _INT.fullmatch(self.text(keyword))
        value = int(match[1]) if match else 0
        return value if value in _INT32 else 0

    def uid(self, keyword: str) -> str:
        """Return an identifying UID."""
        value = self.text(keyword)
        if not value:
            raise UidMissingError(f"{keyword} is missing; ask the sender to correct the object.")
        if not _UID.fullmatch(value) or not any("0" <= digit <= "9" for digit in value):
            raise UidInvalidError(f"{keyword} is not a UID; ask the sender to correct the object.")
        return value

    def _element(self, keyword: str) -> RawDataElement | DataElement | None:
        try:
            return self._ds.get_item(_tag(keyword), keep_deferred=True)
        except KeyError:
            return None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _join(value: Any, encodings: Sequence[str]) -> str:
    if isinstance(value, bytes):
        return _decode(value, encodings)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return "" if value is None else str(value)
    return "\\".join(_join(one, encodings) for one in value)


def _decode(value: bytes, encodings: Sequence[str]) -> str:
    """Decode by the declared character sets; undeclared UTF-8 is recognised, Latin-1 is last."""
    if b"\x1b" in value:
        try:
            return _ESCAPE.sub("", decode_bytes(value, encodings, _DELIMITERS))
        except (LookupError, ValueError):
            value = value.replace(b"\x1b", b"")
    for encoding in (encodings[0], "utf-8"):
        try:
            return value.decode(encoding)
        except (LookupError, UnicodeError):
            continue
    return value.decode("latin-1")


def _clean(text: str) -> str:
    if not text.isprintable():
        text = "".join(
            " " if character in "\t\n\f\r" else character
            for character in text
            if character in "\t\n\f\r" or unicodedata.category(character) not in ("Cc", "Cs")
        )
    return text.strip(" ")[:MAX_TEXT].rstrip(" ")
