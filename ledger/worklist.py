"""The worklist: what the ledger's many tables say of a study, kept in one row and some tags.

Whoever changes something about a study marks it in the same transaction (:func:`touch_revision`, or
``Study.changed_at``); :func:`refresh_worklist` then writes row and tags anew. Searching reads one
index in its order, so a page costs the same among a thousand studies and a million.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Engine, delete, exists, func, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from ledger.database import reading, transaction
from ledger.queries import study_counts, study_state
from ledger.tables import Decision, PredictionRow, Revision, Study
from ledger.web_tables import StudyTag, Upload, UploadFile, UserAccount, WorklistRow

BATCH = 50
"""Studies a transaction."""
SHORTEST_PREFIX = 3
"""Letters that a word needs for its beginning to count; shorter ones must be whole."""
COUNTED = 20_000
"""Entries of a tag that are counted at most to choose where to start."""
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


def touch_revision(session: Session, revision_id: int, now: float) -> None:
    """Mark a revision's study as changed."""
    study = select(Revision.study_id).where(Revision.id == revision_id).scalar_subquery()
    session.execute(
        update(Study)
        .where(Study.id == study)
        .values(changed_at=now)
        .execution_options(synchronize_session=False)
    )


def refresh_worklist(engine: Engine) -> int:
    """Bring rows and tags of changed studies up to date; return how many. Any process may call it.

    Raises
    ------
    LedgerError
        The database is unreachable or stayed locked.
    """
    with reading(engine) as session:
        if session.scalar(select(Study.id).where(Study.changed_at >= 0.0).limit(1)) is None:
            return 0
    with transaction(engine) as session:
        studies = session.scalars(
            select(Study)
            .where(Study.changed_at >= 0.0)
            .order_by(Study.changed_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        ).all()
        for study in studies:
            _refresh(session, study)
            study.changed_at = None
        return len(studies)


def _refresh(session: Session, study: Study) -> None:
    instances, modalities = study_counts(session, study)
    state = study_state(session, study)
    models, findings = _answers(session, study)
    session.merge(
        WorklistRow(
            study_id=study.id,
            received_at=study.last_received_at,
            state=state,
            instances=instances,
            modalities=modalities,
            models=models,
            findings=findings,
        )
    )
    wanted = {
        ("state", state),
        *(("modality", one) for one in modalities),
        *(("model", one) for one in models),
        *(("finding", one) for one in findings),
        *(("user", one) for one in _uploaders(session, study)),
        *(("word", one) for one in study_words(study)),
    }
    session.execute(delete(StudyTag).where(StudyTag.study_id == study.id))
    session.add_all(
        StudyTag(kind=kind, value=value[:64], received_at=study.last_received_at, study_id=study.id)
        for kind, value in {(kind, value[:64]) for kind, value in wanted if value}
    )
    session.flush()


def study_words(study: Study) -> set[str]:
    """Return what a study is found by when people type words."""
    texts = (study.patient_name, study.patient_id, study.accession_number)
    return {
        *(word for text in texts for word in words(text)),
        *(text.casefold()[:64] for text in texts[1:] if text),
    }


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, marks left out."""
    return [word[:64] for word in re.split(r"[\W_]+", text.casefold()) if word]


def _answers(session: Session, study: Study) -> tuple[list[str], list[str]]:
    """Return the models that answered about the newest revision, and what they found."""
    newest = (
        select(Revision.id)
        .where(Revision.study_id == study.id)
        .order_by(Revision.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Decision.model_id, PredictionRow.summary)
        .outerjoin(PredictionRow, PredictionRow.decision_id == Decision.id)
        .where(Decision.revision_id == newest, Decision.is_accepted)
    ).all()
    findings = {label for _, summary in rows if summary for label in found_in(summary)}
    return sorted({model for model, _ in rows}), sorted(findings)


def found_in(summary: dict[str, Any]) -> set[str]:
    """Return the labels that a prediction reports as present."""
    return {
        *(one["label"] for one in summary["findings"] if one["probability"] >= one["threshold"]),
        *(one["label"] for one in summary["boxes"]),
        *(one["label"] for one in summary["segments"] if one["voxels"]),
    }


def _uploaders(session: Session, study: Study) -> Sequence[str]:
    return session.scalars(
        select(UserAccount.login)
        .join(Upload, Upload.user_id == UserAccount.id)
        .join(UploadFile, UploadFile.upload_id == Upload.id)
        .where(UploadFile.study_instance_uid == study.study_instance_uid)
        .distinct()
    ).all()


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
    table = WorklistRow if first is None else StudyTag
    received, key = table.received_at, table.study_id
    page = select(received, key)
    if first is not None:
        page = page.where(*_is(StudyTag, *first))
        if first[2]:  # a study may have several words with this beginning
            page = page.distinct()
    page = page.where(*(has_tag(key, *one) for one in filters if one != first))
    if search.received_from is not None:
        page = page.where(received >= search.received_from)
    if search.received_until is not None:
        page = page.where(received < search.received_until)
    if after is not None:
        page = page.where(tuple_(received, key) < tuple_(*after))
    keys = page.order_by(received.desc(), key.desc()).limit(limit).subquery()
    rows = session.execute(
        select(WorklistRow, Study)
        .join(keys, keys.c.study_id == WorklistRow.study_id)
        .join(Study, Study.id == WorklistRow.study_id)
        .order_by(keys.c.received_at.desc(), keys.c.study_id.desc())
    )
    return [(row, study) for row, study in rows]


def _where_to_start(session: Session, filters: list[Filter], limit: int) -> Filter | None:
    """Return the filter whose entries in the index are the fewest to look at; None is the list.

    Words that are whole lie in the list's order, so as many are read as it takes to fill the page.
    Those with a common beginning lie in the order of the words: all of them are read and sorted,
    which pays as long as they are few. How many there are is counted up to a limit.
    """
    if not filters:
        return None
    studies = session.scalar(select(func.max(WorklistRow.study_id))) or 1
    counts = {one: _count(session, one) for one in filters}
    share = prod(min(1.0, max(count, 1) / studies) for count in counts.values())
    steps: dict[Filter | None, float] = {None: limit / share}
    for one, count in counts.items():
        if not one[2]:
            steps[one] = min(count, limit / share * count / studies)
        elif count < COUNTED:
            steps[one] = count
    return min(steps, key=lambda one: steps[one])


def _count(session: Session, one: Filter) -> int:
    some = select(StudyTag.study_id).where(*_is(StudyTag, *one)).limit(COUNTED).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def _filters(search: Search) -> list[Filter]:
    """Return what a study's tags have to be."""
    typed = sorted(words(search.text), key=len, reverse=True)
    exact = [
        ("finding", search.finding),
        ("model", search.model),
        ("user", search.user),
        ("modality", search.modality),
        ("state", search.state),
    ]
    return [
        *(("word", word, len(word) >= SHORTEST_PREFIX) for word in typed),
        *((kind, value[:64], False) for kind, value in exact if value),
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
    """Choose studies with a tag, or one that begins so."""
    tag = aliased(StudyTag)
    return exists().where(tag.study_id == study_id, *_is(tag, kind, value, is_prefix))


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
