"""The worklist: what the ledger's many tables say of a study, kept in one row and some tags.

Whoever changes something about a study marks it in the same transaction (:func:`touch_revision`, or
``Study.changed_at``); :func:`refresh_worklist` then writes row and tags anew. Searching reads one
index in its order, so a page costs the same among a thousand studies and a million.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.queries import study_counts, study_state
from ledger.tables import Decision, PredictionRow, Revision, Study
from ledger.web_tables import StudyTag, Upload, UploadFile, UserAccount, WorklistRow

BATCH = 50
"""Studies a transaction."""
SEPARATORS = r"[\W_]+"
LONGEST = 64
"""Characters of a tag's value; the rest is cut off."""


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
        *(
            ("word", word)
            for text in (study.patient_name, study.patient_id, study.accession_number)
            for word in words(text)
        ),
    }
    session.execute(delete(StudyTag).where(StudyTag.study_id == study.id))
    session.add_all(
        StudyTag(kind=kind, value=value, received_at=study.last_received_at, study_id=study.id)
        for kind, value in {(kind, value[:LONGEST]) for kind, value in wanted if value}
    )
    session.flush()


def fold(text: str) -> str:
    """Return a text in small letters, each letter by itself, as databases compare them."""
    return text.replace("İ", "I").casefold()


def words(text: str) -> list[str]:
    """Return the words of a text in small letters, marks left out."""
    return [word[:LONGEST] for word in re.split(SEPARATORS, fold(text)) if word]


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
