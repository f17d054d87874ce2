"""Are these two the same patient? Pure.

Two headers of one study may spell a patient differently and mean the same one: padding, letter
case, accents, a second representation of the name, a title, a middle name that one leaves out, an
old date form, an attribute that one doesn't have. None of these is a conflict. Another Patient ID,
another family or given name, or another birth date is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

NAME_PARTS = 3  # family, given, middle; prefix and suffix (PS3.5 6.2.1) tell nobody apart


@dataclass(frozen=True, slots=True)
class Patient:
    """Patient ID, name and birth date; ``""`` is not known. PHI, never for logs."""

    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""

    @classmethod
    def of(cls, source: Any) -> Self:
        """Read the attributes of anything that has them under these names."""
        return cls(source.patient_id, source.patient_name, source.patient_birth_date)

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Self:
        """Read what ``dataclasses.asdict`` gave."""
        return cls(**data)


def differences(one: Patient, other: Patient) -> tuple[str, ...]:
    """Return the keywords in which two patients contradict each other.

    What one of them doesn't know contradicts nothing.
    """
    pairs = {
        "PatientID": (_plain(one.patient_id), _plain(other.patient_id)),
        "PatientBirthDate": (_date(one.patient_birth_date), _date(other.patient_birth_date)),
    }
    found = [
        keyword for keyword, (mine, yours) in pairs.items() if mine and yours and mine != yours
    ]
    if not _same_name(one.patient_name, other.patient_name):
        found.append("PatientName")
    return tuple(found)


def is_renamed(one: Patient, other: Patient) -> bool:
    """Tell whether two that differ can be one patient before and after a merge or a correction.

    Something that tells people apart must have stayed: the Patient ID with the name or the birth
    date, or the name and the birth date.
    """
    stayed = {
        "PatientID": bool(one.patient_id and other.patient_id),
        "PatientName": bool(one.patient_name and other.patient_name),
        "PatientBirthDate": bool(one.patient_birth_date and other.patient_birth_date),
    }
    for keyword in differences(one, other):
        stayed[keyword] = False
    return sum(stayed.values()) >= 2


def _plain(text: str) -> str:
    """Return text without case, accents, widths and superfluous spaces."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    kept = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return " ".join(kept.split())


def _date(text: str) -> str:
    return re.sub(r"\D", "", text)[:8]


def _same_name(one: str, other: str) -> bool:
    """Tell whether some representation (PS3.5 6.2.1.2) of one name is one of the other's."""
    mine, yours = _representations(one), _representations(other)
    if not mine or not yours:
        return True
    return any(_fits(first, second) for first in mine for second in yours)


def _representations(name: str) -> list[tuple[str, ...]]:
    groups = [tuple(map(_plain, group.split("^")[:NAME_PARTS])) for group in name.split("=")]
    return [group for group in groups if any(group)]


def _fits(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Tell whether all parts that both have are the same, the first among them."""
    if not one[0] or not other[0]:
        return one == other
    return all(
        mine == yours or not mine or not yours for mine, yours in zip(one, other, strict=False)
    )
