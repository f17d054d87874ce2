"""Questions of QIDO-RS (PS3.18 sections 8.3.4 and 10.6.1): what is asked, and does it fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

from pydicom.datadict import keyword_for_tag, tag_for_keyword

from viewer_api.errors import QueryError

Level: TypeAlias = Literal["studies", "series", "instances"]
MAX_ROWS = 1000
"""Answers to one question."""
MAX_OFFSET = 1_000_000
MAX_VALUE = 1024
MAX_LIST = 200
"""UIDs or modalities in one value."""


class Kind(StrEnum):
    """How values of an attribute are compared (PS3.4 section C.2.2.2)."""

    TEXT = "text"
    """single value, or wildcards ``*`` and ``?``"""
    NAME = "name"
    """the same without regard to case"""
    RANGE = "range"
    """dates and times: one, or from-until with an end left open"""
    LIST = "list"
    """one of several"""
    NUMBER = "number"


STUDY = {
    "StudyInstanceUID": Kind.LIST,
    "StudyDate": Kind.RANGE,
    "StudyTime": Kind.RANGE,
    "AccessionNumber": Kind.TEXT,
    "ModalitiesInStudy": Kind.LIST,
    "ReferringPhysicianName": Kind.NAME,
    "PatientName": Kind.NAME,
    "PatientID": Kind.TEXT,
    "PatientBirthDate": Kind.RANGE,
    "PatientSex": Kind.TEXT,
    "StudyID": Kind.TEXT,
    "StudyDescription": Kind.TEXT,
}
SERIES = {
    "SeriesInstanceUID": Kind.LIST,
    "Modality": Kind.LIST,
    "SeriesNumber": Kind.NUMBER,
    "SeriesDescription": Kind.TEXT,
    "BodyPartExamined": Kind.TEXT,
    "PerformedProcedureStepStartDate": Kind.RANGE,
    "PerformedProcedureStepStartTime": Kind.RANGE,
    "ScheduledProcedureStepID": Kind.TEXT,
    "RequestedProcedureID": Kind.TEXT,
}
INSTANCE = {
    "SOPInstanceUID": Kind.LIST,
    "SOPClassUID": Kind.LIST,
    "InstanceNumber": Kind.NUMBER,
}
ATTRIBUTES: Mapping[Level, Mapping[str, Kind]] = {
    "studies": STUDY,
    "series": STUDY | SERIES,
    "instances": STUDY | SERIES | INSTANCE,
}
IN_SEQUENCE = {"ScheduledProcedureStepID", "RequestedProcedureID"}
_GENERAL = {"limit", "offset", "includefield", "fuzzymatching", "accept"}
NO_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
MORE = "There are additional results that can be requested."


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for: values by keyword, without those that ask nothing."""

    study: dict[str, str] = field(default_factory=dict)
    series: dict[str, str] = field(default_factory=dict)
    instance: dict[str, str] = field(default_factory=dict)
    limit: int = MAX_ROWS
    offset: int = 0
    warnings: tuple[str, ...] = ()


def parse(level: Level, parameters: Iterable[tuple[str, str]]) -> Question:
    """Read the parameters of an address.

    Raises
    ------
    QueryError
        One isn't known, can't be searched for here, or has no usable value.
    """
    known = ATTRIBUTES[level]
    asked: dict[str, str] = {}
    general: dict[str, str] = {}
    for name, value in parameters:
        if name.lower() in _GENERAL:
            general[name.lower()] = value
            continue
        keyword = _keyword(name)
        if keyword not in known:
            raise QueryError(f"{level.capitalize()} can't be searched for by {name[:64]!r}.")
        if keyword in asked:
            raise QueryError(f"{keyword} is asked twice; put the values into one, with commas.")
        if len(value) > MAX_VALUE or "\0" in value:
            raise QueryError(f"The value of {keyword} is not usable; shorten it.")
        if value.strip("*"):  # nothing, or anything
            _check(keyword, known[keyword], value)
            asked[keyword] = value
    is_fuzzy = general.get("fuzzymatching", "").lower() == "true"
    _check_fields(general.get("includefield", ""))
    return Question(
        study={key: value for key, value in asked.items() if key in STUDY},
        series={key: value for key, value in asked.items() if key in SERIES},
        instance={key: value for key, value in asked.items() if key in INSTANCE},
        limit=min(_whole(general.get("limit"), "limit", MAX_ROWS), MAX_ROWS),
        offset=_whole(general.get("offset"), "offset", 0),
        warnings=(NO_FUZZY,) if is_fuzzy else (),
    )


def _keyword(name: str) -> str:
    """Return the keyword of an attribute that is named by keyword, tag, or path."""
    *path, last = [_one_keyword(part) for part in name.split(".")]
    if path == ["RequestAttributesSequence"] and last in IN_SEQUENCE:
        return last
    return "" if path or last in IN_SEQUENCE else last


def _one_keyword(name: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return keyword_for_tag(int(name, 16))
    return name if tag_for_keyword(name) is not None else ""


def _check(keyword: str, kind: Kind, value: str) -> None:
    if kind is Kind.NUMBER and not re.fullmatch(r"[+-]?[0-9]{1,9}", value):
        raise QueryError(f"{keyword} needs a whole number.")
    if kind is Kind.RANGE:
        start, end = ends_of(value)
        if not all(re.fullmatch(r"[0-9]{0,8}(\.[0-9]{0,6})?", one) for one in (start, end)):
            raise QueryError(f"{keyword} needs digits as in DICOM, or two with a hyphen between.")
    if kind is Kind.LIST and len(values_of(value)) > MAX_LIST:
        raise QueryError(f"{keyword} takes at most {MAX_LIST} values.")


def _check_fields(text: str) -> None:
    """Refuse what is no attribute. What a level has is answered anyway, other things never."""
    for name in text.split(","):
        parts = name.strip().split(".")
        if name.strip() in ("", "all") or all(_one_keyword(part) for part in parts):
            continue
        if re.fullmatch(r"[0-9A-Fa-f]{8}", parts[0]):
            continue  # private
        raise QueryError(f"includefield: {name[:64]!r} is no attribute.")


def _whole(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > MAX_OFFSET:
        raise QueryError(f"{name} needs a whole number up to {MAX_OFFSET}.")
    return int(text)


def values_of(text: str) -> list[str]:
    r"""Return the values of a list, which commas or backslashes divide."""
    return [one.strip() for one in re.split(r"[,\\]", text) if one.strip()]


def ends_of(text: str) -> tuple[str, str]:
    """Return both ends of a range; of a single value twice the same."""
    start, hyphen, end = (one.strip().replace(":", "") for one in text.partition("-"))
    return (start, end) if hyphen else (start, start)


def fits(kind: Kind, wanted: str, value: str | int) -> bool:
    """Tell whether a value is what is asked for."""
    text = str(value)
    if kind is Kind.NUMBER:
        return int(wanted) == int(value)
    if kind is Kind.LIST:
        return text in values_of(wanted)
    if kind is Kind.RANGE:
        start, end = ends_of(wanted)
        return bool(text) and start <= text and (not end or text[: len(end)] <= end)
    flags = re.IGNORECASE if kind is Kind.NAME or is_pattern(wanted) else 0
    return re.fullmatch(_regex(wanted), text, flags | re.DOTALL) is not None


def is_pattern(wanted: str) -> bool:
    """Tell whether a text has wildcards."""
    return "*" in wanted or "?" in wanted


def _regex(wanted: str) -> str:
    parts = re.split(r"(\*+|\?)", wanted)  # stars in a row are one, or matching could take ages
    return "".join({"*": ".*", "?": "."}.get(part[:1], re.escape(part)) for part in parts)
