"""Whose results these are: Patient and Study attributes, carried over with their character set.

Values are copied as the source has them, if they keep to their form. Specific Character Set
(0008,0005) comes along, so a name in ISO 2022, GB18030, Latin-1 or UTF-8 leaves in the encoding in
which the site sent it. Only where that can't hold the values (an undefined term, a wrong
declaration) the result is in UTF-8.
"""

from __future__ import annotations

import copy
import io
import logging
import unicodedata
import warnings
from collections.abc import Iterable
from functools import lru_cache

from highdicom._standard_utils import get_module_attribute_map
from pydicom import DataElement, Dataset, dcmread
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_out.form import in_form

LOGGER = logging.getLogger(__name__)

UTF_8 = "ISO_IR 192"
"""Defined term of Unicode in UTF-8, PS3.3 section C.12.1.1.2."""

MODULES = (
    "patient",
    "clinical-trial-subject",
    "general-study",
    "patient-study",
    "clinical-trial-study",
)
"""Modules of the Patient and Study entities that every result shares (PS3.3 A.1.4)."""

REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2: present in every result, empty where the source has none (PS3.3 C.7.1.1, C.7.2.1)."""

_EXACT = ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyInstanceUID")
"""By these others find patient and study: kept as they are, in form or not."""

LONG_STRING = 64
"""Characters in a Long String (LO), PS3.5 table 6.2-1."""

_WIDE = {UTF_8, "GB18030"}  # these hold every character


@lru_cache(maxsize=1)
def identity_keywords() -> tuple[str, ...]:
    """Return the keywords of all attributes of `MODULES`, top level only."""
    table = get_module_attribute_map()
    return tuple(
        dict.fromkeys(
            str(row["keyword"]) for module in MODULES for row in table[module] if not row["path"]
        )
    )


def read_identity(source: Dataset) -> Dataset:
    """Return Patient and Study attributes of a source header, with a character set that holds them.

    Who it is stays as it is. Any other value out of its form would make the result invalid: old
    forms of dates are written anew, the rest is left out with a warning. Missing type 2 attributes
    are empty.
    """
    with warnings.catch_warnings(action="ignore"):  # pydicom on values out of form
        identity = _in_form(source)
        for keyword in REQUIRED:
            if keyword not in identity:
                setattr(identity, keyword, "")
        if not _survives(identity):
            identity.SpecificCharacterSet = UTF_8
    return identity


def _in_form(source: Dataset) -> Dataset:
    identity = Dataset()
    left_out = []
    character_set = read_element(source, "SpecificCharacterSet")
    if character_set is not None and character_set.value:
        identity.add(copy.deepcopy(character_set))
    for keyword in identity_keywords():
        element = read_element(source, keyword)
        if element is None:
            continue
        if keyword in _EXACT:
            identity.add(copy.deepcopy(element))
            continue
        formed = in_form(element, declares_characters="SpecificCharacterSet" in identity)
        if formed is None:
            left_out.append(keyword)
        else:
            identity.add(formed)
    if not _says_how_identity_was_removed(identity):
        del identity.PatientIdentityRemoved
        left_out.append("PatientIdentityRemoved")
    if left_out:
        LOGGER.warning("Out of form in the source, left out of results: %s", ", ".join(left_out))
    return identity


def _says_how_identity_was_removed(identity: Dataset) -> bool:
    """Whether the method is named where it must be (type 1C, PS3.3 C.7.1.1)."""
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    return identity.get("PatientIdentityRemoved") != "YES" or any(
        word in identity and not identity[word].is_empty for word in methods
    )


def copy_identity(identity: Dataset, target: Dataset) -> None:
    """Put what :func:`read_identity` returned into a result, replacing what is there."""
    if "SpecificCharacterSet" in target:
        del target.SpecificCharacterSet
    for element in identity:
        target.add(copy.deepcopy(element))


def read_element(source: Dataset, keyword: str) -> DataElement | None:
    """Return an element of any header, however broken; None if it is absent or unreadable."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:
        return None
    try:
        element = source[tag]
    except (ValueError, TypeError, OverflowError, NotImplementedError, LookupError, OSError):
        return None
    # pydicom gives a value that its VR can't hold another VR
    return element if element.VR in dictionary_VR(tag) else None


def read_valid(source: Dataset, keyword: str) -> DataElement | None:
    """Return a copy of an element that has a value and keeps to its form, or None."""
    element = read_element(source, keyword)
    if element is None or element.is_empty or element.VM == 0:
        return None
    formed = in_form(element)
    return None if formed is None or not any(map(str, _values(formed))) else formed


def _values(element: DataElement) -> list[object]:
    return [element.value] if element.VM == 1 else list(element.value)


def read_text(source: Dataset, keyword: str) -> str:
    """Return the first value of a text attribute, or ``""``."""
    element = read_element(source, keyword)
    if element is None or element.value is None:
        return ""
    value = element.value[0] if element.VM > 1 else element.value
    return str(value).strip()


def fit_text(text: str, character_set: str | list[str]) -> str:
    """Return our own text so that it can be written beside a patient's name.

    In Unicode character sets it stays; elsewhere letters lose their accents, because the default
    repertoire (PS3.5 section 6.1.2.1) belongs to all of them. A backslash would part values.
    """
    text = " ".join(text.replace("\\", "/").split())
    if isinstance(character_set, str) and character_set in _WIDE:
        return text
    text = text.replace("–", "-").replace("—", "-")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").strip()
    return plain or "(no Latin name)"


def character_set_of(ds: Dataset) -> str | list[str]:
    """Return the value of Specific Character Set, ``""`` if absent."""
    value = ds.get("SpecificCharacterSet", "") or ""
    return value if isinstance(value, str) else [str(term) for term in value]


def first_difference(
    one: Dataset, other: Dataset, keywords: Iterable[str] | None = None
) -> str | None:
    """Return the first keyword, of all that identify, whose values differ between two headers."""
    for keyword in identity_keywords() if keywords is None else keywords:
        mine, yours = read_element(one, keyword), read_element(other, keyword)
        if _value(mine) != _value(yours):
            return keyword
    return None


def _value(element: DataElement | None) -> object:
    if element is None or element.is_empty:
        return ""
    if element.VR == "PN":
        return str(element.value).rstrip("=^ ")
    return element.value


def _survives(identity: Dataset) -> bool:
    """Whether writing and reading again gives the same values and the terms are defined."""
    declared = character_set_of(identity)
    terms = [declared] if isinstance(declared, str) else declared
    if any(term not in python_encoding for term in terms if term):
        return False
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    trial = copy.deepcopy(identity)
    trial.file_meta = meta
    try:
        trial.save_as(buffer)
        again = dcmread(io.BytesIO(buffer.getvalue()), force=True)
    except (ValueError, TypeError, LookupError):
        return False
    return first_difference(identity, again) is None
