"""Whether a value of a source keeps to its value representation (PS3.5 section 6.2).

A result must not carry a value on that makes it invalid.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom import DataElement
from pydicom.config import RAISE
from pydicom.valuerep import validate_value

_FORMAL = {"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
"""Value representations with a form that readers rely on (PS3.5 table 6.2-1)."""
_SHORT = {"LO", "SH"}  # one line of bounded length
_TEXT = {"LO", "LT", "PN", "SH", "ST", "UC", "UT"}

_OLD_SEPARATORS = {"DA": ".", "TM": ":"}  # ACR-NEMA's forms, PS3.5 table 6.2-1

_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "Laterality": {"R", "L"},
    "ImageLaterality": {"R", "L", "U", "B"},
    "LossyImageCompression": {"00", "01"},
}
"""Enumerated Values, PS3.3 C.7.1.1, C.7.3.1, C.8.11.1 and C.7.6.1."""


def in_form(element: DataElement, *, declares_characters: bool = True) -> DataElement | None:
    """Return a copy that keeps to its form, or None if it can't.

    Dates and times in ACR-NEMA's form are written anew. A sequence loses its private attributes; if
    anything else in it is out of form, the whole is.

    Parameters
    ----------
    declares_characters
        Whether the source names its character set; without, only ASCII is defined.
    """
    element = copy.deepcopy(element)
    if element.VR == "SQ":
        return _sequence_in_form(element, declares_characters=declares_characters)
    if element.is_empty:
        return element
    if element.VR in _OLD_SEPARATORS:
        element.value = str(element.value).replace(_OLD_SEPARATORS[element.VR], "")
    values = [element.value] if element.VM == 1 else element.value
    known = _ENUMERATED.get(element.keyword)
    if known is not None and any(value not in known for value in values):
        return None
    return element if _are_in_form(element.VR, values, declares_characters) else None


def _are_in_form(vr: str, values: Sequence[object], declares_characters: bool) -> bool:
    if vr in _TEXT and not declares_characters and not all(str(one).isascii() for one in values):
        return False
    if vr in _FORMAL or vr in _SHORT:
        try:
            for value in values:
                validate_value(vr, str(value), RAISE)
        except ValueError:
            return False
    return True


def _sequence_in_form(element: DataElement, *, declares_characters: bool) -> DataElement | None:
    for item in element.value:
        item.remove_private_tags()
        for tag in [part.tag for part in item if part.tag.element == 0]:
            del item[tag]  # group lengths are retired, PS3.5 section 7.2
        for part in list(item):
            formed = in_form(part, declares_characters=declares_characters)
            if formed is None:
                return None
            item[part.tag] = formed
    return element if element.value else None
