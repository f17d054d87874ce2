"""Finding studies by their tags: pages of the worklist, and whose texts fit a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, func, intersect, select, tuple_, union
from sqlalchemy.orm import Session, aliased

from ledger.tables import Study
from ledger.web_tables import StudyTag, WorklistRow
from ledger.worklist import LONGEST, SEPARATORS, fold, words

SHORTEST_PREFIX = 3
"""Letters that a word needs for its beginning to count; shorter ones must be whole."""
COUNTED = 20_000
"""Entries of a tag that are counted at most to choose where to start."""
LOOKUP = 10
"""What it costs to find a study by its id, where the next one in a row costs 1."""
LAST = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; empty fields ask nothing. Times are seconds since 1970 UTC."""

    text: str = ""
    """words of patient's name, patient ID or accession number, or their beginnings"""
    state: str = ""
    modality: str = ""
    model: str = ""
    finding: str = ""
    user: str = ""
    """who uploaded it: a login"""
    received_from: float | None = None
    received_until: float | None = None


Filter: TypeAlias = tuple[str, str, bool]
"""Kind and value of a tag, and whether the value is only its beginning."""
Key: TypeAlias = tuple[float, int]
"""Place in the list: when a study was received, and its row."""


def search_worklist(
    session: Session, search: Search, *, after: Key | None = None, limit: int = 50
) -> list[tuple[WorklistRow, Study]]:
    """Return studies, the last received first.

    Parameters
    ----------
    after
        Place of the last study of the page before.
    """
    filters = _filters(search)
    first = _where_to_start(session, filters, limit)
    start = _entries(first).subquery().c
    page = select(start.received_at, start.study_id).where(
        *(has_tag(start.study_id, *one) for one in filters if one not in first)
    )
    if search.received_from is not None:
        page = page.where(start.received_at >= search.received_from)
    if search.received_until is not None:
        page = page.where(start.received_at < search.received_until)
    if after is not None:
        page = page.where(tuple_(start.received_at, start.study_id) < tuple_(*after))
    keys = page.order_by(*_newest_first(start)).limit(limit).subquery()
    rows = session.execute(
        select(WorklistRow, Study)
        .join(keys, keys.c.study_id == WorklistRow.study_id)
        .join(Study, Study.id == WorklistRow.study_id)
        .order_by(*_newest_first(keys.c))
    )
    return [(row, study) for row, study in rows]


def _where_to_start(session: Session, filters: list[Filter], limit: int) -> list[Filter]:
    """Return the filters whose common entries are read first; the others are looked up for each.

    Those that are rare, if there are any and their entries are not so many that a filter which is
    whole, read in the list's order, fills the page sooner.
    """
    counts = {one: _count(session, one) for one in filters}
    few = [one for one in filters if counts[one] < COUNTED]
    frequent = [one for one in filters if one not in few and not one[2]][:1]
    if few and frequent and min(counts.values()) ** 2 > limit * _studies(session):
        return frequent
    return few or frequent


def _entries(filters: list[Filter]) -> Select[float, int]:
    """Choose where to start: the studies with all of these tags, as far as possible in order.

    The list itself, and a word that is whole, lie in an index in the list's order: no more is read
    of them than fills the page. Words with a common beginning lie in the order of the words. So
    they are read as a whole, as are several tags of which each is rare: their common studies come
    from a set operation, because a join is planned by guesses of how many there are.
    """
    if not filters:
        return select(WorklistRow.received_at, WorklistRow.study_id)
    tagged = [
        select(StudyTag.received_at, StudyTag.study_id).where(*_is(StudyTag, *one))
        for one in filters
    ]
    if len(filters) == 1 and not filters[0][2]:
        return tagged[0]
    common = (intersect(*tagged) if len(tagged) > 1 else tagged[0].distinct()).subquery().c
    return select(common.received_at, common.study_id).order_by(*_newest_first(common))


def _newest_first(columns: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return columns.received_at.desc(), columns.study_id.desc()


def _studies(session: Session) -> int:
    return session.scalar(select(func.max(WorklistRow.study_id))) or 1


def _count(session: Session, one: Filter) -> int:
    some = select(StudyTag.study_id).where(*_is(StudyTag, *one)).limit(COUNTED).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def _filters(search: Search) -> list[Filter]:
    """Return what a study's tags have to be."""
    typed = sorted(dict.fromkeys(words(search.text)), key=len, reverse=True)
    exact = [
        ("finding", search.finding),
        ("model", search.model),
        ("user", search.user),
        ("modality", search.modality),
        ("state", search.state),
    ]
    return [
        *(("word", word, len(word) >= SHORTEST_PREFIX) for word in typed),
        *((kind, value[:LONGEST], False) for kind, value in exact if value),
    ]


def _is(
    tag: type[StudyTag], kind: str, value: str, is_prefix: bool
) -> Iterable[ColumnElement[bool]]:
    yield tag.kind == kind
    if is_prefix:
        yield tag.value >= value
        yield tag.value < value + LAST
    else:
        yield tag.value == value


def has_tag(study_id: Any, kind: str, value: str, is_prefix: bool = False) -> ColumnElement[bool]:
    """Choose studies with a tag, or one that begins so, by looking at the tags of each."""
    tag = aliased(StudyTag)
    begins = func.substr(tag.value, 1, len(value)) if is_prefix else tag.value
    looked = select(tag.study_id).where(tag.study_id == study_id, tag.kind == kind, begins == value)
    return looked.offset(0).exists()  # the offset keeps PostgreSQL from making it a join


def known_values(session: Session, kind: str, limit: int = 200) -> list[str]:
    """Return the values of a kind of tag, each found by one step in the index."""
    found: list[str] = []
    last = ""
    while len(found) < limit:
        value = session.scalar(
            select(StudyTag.value)
            .where(StudyTag.kind == kind, StudyTag.value > last)
            .order_by(StudyTag.value)
            .limit(1)
        )
        if value is None:
            break
        found.append(value)
        last = value
    return found


def few_with_tags(session: Session, tags: Iterable[Filter], limit: int) -> Select[int] | None:
    """Choose ids of studies with the rare ones of some tags, or whose tags are not written yet.

    None where `limit` of them are found sooner by reading studies one after the other.
    """
    counts = {one: _count(session, one) for one in set(tags)}
    few = [one for one, count in counts.items() if count < COUNTED]
    if not few:
        return None
    tagged = _entries(few).subquery()
    if not are_few(session, session.scalar(select(func.count()).select_from(tagged)) or 0, limit):
        return None
    not_yet = select(Study.id).where(Study.changed_at >= 0.0)
    return select(union(select(tagged.c.study_id), not_yet).subquery().c.study_id)


def are_few(session: Session, found: int, limit: int) -> bool:
    """Tell whether so many studies are looked up sooner than `limit` of them are met in a row."""
    return LOOKUP * found**2 <= limit * _studies(session)


def tags_of_pattern(pattern: str) -> list[Filter]:
    """Return the words, and beginnings of words, of every text that fits a pattern.

    A star stands for anything, a question mark for one character (PS3.4 section C.2.2.2.4). What
    follows one is no beginning of a word, unless a separator is between.
    """
    found: list[Filter] = []
    parts = re.split(r"[*?]", pattern)
    for place, part in enumerate(parts):
        typed = re.split(SEPARATORS, fold(part))
        if place > 0:
            typed[0] = ""  # the end of a word
        found += [("word", word[:LONGEST], False) for word in typed[:-1] if word]
        if typed[-1]:
            found.append(("word", typed[-1][:LONGEST], place < len(parts) - 1))
    return found
