"""What goes first. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scp.config import StatRule

HIGH = 1
"""Priority (0000,0700) of a C-STORE request. LOW says nothing: dcmtk's storescu always sends it."""
URGENT = frozenset({"STAT", "HIGH"})
"""Defined terms of Requested Procedure Priority (0040,1003), PS3.3 section C.4.11"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of how urgent a study is, collected from its objects."""

    store_priorities: Collection[int | None] = ()
    requested_procedure_priorities: Collection[str] = ()
    calling_ae_titles: Collection[str] = ()
    modalities: Collection[str] = ()
    body_parts_examined: Collection[str] = ()
    study_description: str = ""


def is_stat(request: Request, rules: Sequence[StatRule]) -> bool:
    """Tell whether a study goes first: a sender, the order or a rule of the site says so."""
    if HIGH in request.store_priorities:
        return True
    if any(word.upper() in URGENT for word in request.requested_procedure_priorities):
        return True
    return any(_fits(request, rule) for rule in rules)


def _fits(request: Request, rule: StatRule) -> bool:
    pairs = (
        (rule.calling_ae_title, request.calling_ae_titles),
        (rule.modality, request.modalities),
        (rule.body_part_examined, request.body_parts_examined),
        (rule.study_description, (request.study_description,)),
    )
    return all(
        any(fnmatchcase(value.upper(), pattern.upper()) for value in values or ("",))
        for pattern, values in pairs
    )
