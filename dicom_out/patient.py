"""Whose results these are: Patient and Study attributes, carried over with their character set.

Values are copied as the source has them. Specific Character Set (0008,0005) comes along, so a name
in ISO 2022, GB18030, Latin-1 or UTF-8 leaves in the encoding in which the site sent it. Only where
that can't hold the values (an undefined term, a wrong declaration) the result is in UTF-8.
"""

from __future__ import annotations

import copy
import io
import unicodedata
import warnings
from collections.abc import Iterable
from functools import lru_cache

from highdicom._standard_utils import get_module_attribute_map
from pydicom import DataElement, Dataset, dcmread
from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

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

_FORMAL = {"AS", "CS", "DA", "DS", "DT", "IS", "TM"}
"""Value representations with a form that readers rely on (PS3.5 table 6.2-1)."""

_OLD_SEPARATORS = {"DA": ".", "TM": ":"}  # ACR-NEMA's forms, PS3.5 table 6.2-1

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

    Text is kept as it is. Dates, times, numbers and codes out of their form would make the result
    invalid: old forms are written anew, others left out. Missing type 2 attributes are empty.
    """
    identity = Dataset()
    with warnings.catch_warnings(action="ignore"):  # pydicom on values out of form
        character_set = read_element(source, "SpecificCharacterSet")
        if character_set is not None and character_set.value:
            identity.add(copy.deepcopy(character_set))
        for keyword in identity_keywords():
            element = _in_form(read_element(source, keyword))
            if element is not None:
                identity.add(element)
        for keyword in REQUIRED:
            if keyword not in identity:
                setattr(identity, keyword, "")
        if not _survives(identity):
            identity.SpecificCharacterSet = UTF_8
    return identity


def _in_form(element: DataElement | None) -> DataElement | None:
    """Return a copy that keeps to its value representation, or None if it can't."""
    if element is None:
        return None
    element = copy.deepcopy(element)
    if element.VR == "SQ":
        for item in element.value:
            item.remove_private_tags()
            for tag in [part.tag for part in item if part.tag.element == 0]:
                del item[tag]  # group lengths are retired, PS3.5 section 7.2
        return element if element.value else None
    if element.VR in _FORMAL and not element.is_empty:
        if element.VR in _OLD_SEPARATORS:
            element.value = str(element.value).replace(_OLD_SEPARATORS[element.VR], "")
        try:
            for value in [element.value] if element.VM == 1 else element.value:
                validate_value(element.VR, str(value), RAISE)
        except ValueError:
            return None
        if element.keyword == "PatientSex" and element.value not in ("M", "F", "O"):
            return None
    return element


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
