"""The worklist: what the ledger's many tables say of a study, kept in one row and some tags.

Whoever changes something about a study marks it in the same transaction (:func:`touch_revision`, or
``Study.changed_at``); :func:`refresh_worklist` then writes row and tags anew. Searching reads one
index in its order, so a page costs the same among a thousand studies and a million.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, exists, select, tuple_, update
from sqlalchemy.orm import Session, aliased

from ledger.database import reading, transaction
from ledger.queries import study_counts, study_state
from ledger.tables import Decision, PredictionRow, Revision, Study
from ledger.web_tables import StudyTag, Upload, UploadFile, UserAccount, WorklistRow

BATCH = 50
"""Studies a transaction."""
SHORTEST_PREFIX = 3
"""Letters that a word needs for its beginning to count; shorter ones must be whole."""
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


Key = tuple[float, int]
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
    table = StudyTag if filters else WorklistRow
    received, key = table.received_at, table.study_id
    page = select(received, key)
    if filters:  # start from the tag that is likely the rarest
        page = page.where(*_is(StudyTag, *filters[0]))
        page = page.where(*(_has_tag(key, *one) for one in filters[1:]))
        if filters[0][2]:  # a study may have several words with this beginning
            page = page.distinct()
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


def _filters(search: Search) -> list[tuple[str, str, bool]]:
    """Return kind, value and whether it is a beginning, the likely rarest first."""
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


def _has_tag(study_id: Any, kind: str, value: str, is_prefix: bool) -> ColumnElement[bool]:
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
