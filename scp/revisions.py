"""Closing complete studies: evidence from the ledger, a verdict, and a revision to analyse."""

from __future__ import annotations

import logging

from sqlalchemy import ColumnElement, Engine, and_, func, select, update
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.domain import ObjectState
from ledger.events import record
from ledger.tables import (
    Association,
    Instance,
    ReceivedObject,
    Revision,
    Series,
    Study,
)
from scp.completeness import StudyEvidence, Verdict, judge
from scp.config import CompletenessConfig

logger = logging.getLogger(__name__)

ACTOR = "completeness"


def close_complete_studies(engine: Engine, config: CompletenessConfig, *, now: float) -> list[int]:
    """Make a revision of every open study that is complete.

    A revision analyses all current instances of its study; `Instance.revision_id` marks the first
    one that held each. Any number of processes may call it: a study is judged again under its row
    lock, so it is closed once, and an instance that arrives meanwhile opens it anew.

    Parameters
    ----------
    now
        Seconds since 1970-01-01 UTC.

    Returns
    -------
    list of int
        Ids of the new revisions.

    Raises
    ------
    LedgerError
        The database is unreachable or stayed locked.
    """
    is_open = Study.open_since >= 0.0  # a range, for which SQLite uses the index
    with reading(engine) as session:
        evidence = _load_evidence(session, is_open)
    complete = [study_id for study_id, one in evidence.items() if judge(one, config, now)]
    made = []
    for study_id in complete:
        with transaction(engine) as session:
            revision = _close(session, study_id, config, now)
            if revision is not None:
                made.append(revision)
    return made


def replay_study(session: Session, study: Study, *, now: float) -> int | None:
    """Make a revision of everything a study holds, whether anything is new or not.

    Returns
    -------
    int or None
        Number of the new revision; None if the study holds no instance.
    """
    session.get(Study, study.id, with_for_update=True)  # one revision number at a time
    query = select(Instance.id).join(Series).where(Series.study_id == study.id).limit(1)
    if session.scalar(query) is None:
        return None
    verdict = Verdict("REPLAYED", "An operator asked for it.")
    return _add_revision(session, study, verdict, now).number


def _close(session: Session, study_id: int, config: CompletenessConfig, now: float) -> int | None:
    study = session.scalar(
        select(Study)
        .where(Study.id == study_id, Study.open_since >= 0.0)
        .with_for_update(skip_locked=True)
    )
    if study is None:
        return None  # another process has it
    evidence = _load_evidence(session, Study.id == study_id)[study_id]
    verdict = judge(evidence, config, now)
    if verdict is None:
        return None
    if evidence.instances == 0:  # what was new came again, as part of another study
        study.open_since, study.changed_at = None, now
        return None
    revision = _add_revision(session, study, verdict, now)
    logger.info(
        "study %s: revision %d, %s", study.study_instance_uid, revision.number, verdict.code
    )
    return revision.id


def _add_revision(session: Session, study: Study, verdict: Verdict, now: float) -> Revision:
    newest = session.scalar(select(func.max(Revision.number)).where(Revision.study_id == study.id))
    revision = Revision(
        study_id=study.id,
        number=(newest or 0) + 1,
        reason_code=verdict.code,
        reason=verdict.reason,
        created_at=now,
    )
    session.add(revision)
    session.flush()
    series = select(Series.id).where(Series.study_id == study.id)
    session.execute(
        update(Instance)
        .where(Instance.series_id.in_(series), _is_new())
        .values(revision_id=revision.id)
        .execution_options(synchronize_session=False)
    )
    study.open_since, study.changed_at = None, now
    record(
        session,
        actor=ACTOR,
        action="study.complete",
        subject=study.study_instance_uid,
        detail={"revision": revision.number, "code": verdict.code, "reason": verdict.reason},
        now=now,
    )
    return revision


def _is_new() -> ColumnElement[bool]:
    return and_(Instance.revision_id.is_(None), Instance.is_current)


def _load_evidence(session: Session, which: ColumnElement[bool]) -> dict[int, StudyEvidence]:
    """Return the evidence of the chosen studies."""
    read_until = session.scalar(
        select(ReceivedObject.received_at)
        .where(ReceivedObject.state == ObjectState.RECEIVED)
        .order_by(ReceivedObject.id)
        .limit(1)
    )
    counts = (
        select(
            Study.id,
            Study.open_since,
            Study.last_received_at,
            func.count(Instance.id),
            func.count(func.distinct(Instance.series_id)),
        )
        .outerjoin(Series, Series.study_id == Study.id)
        .outerjoin(Instance, and_(Instance.series_id == Series.id, _is_new()))
        .where(which)
        .group_by(Study.id, Study.open_since, Study.last_received_at)
    )
    closing = _load_associations(session, which)
    evidence = {}
    for study_id, open_since, last_received_at, instances, series in session.execute(counts):
        open_associations, last_closed_at, last_outcome = closing.get(study_id, (0, None, None))
        evidence[study_id] = StudyEvidence(
            open_since=open_since or 0.0,
            last_received_at=last_received_at,
            instances=instances,
            series=series,
            open_associations=open_associations,
            last_closed_at=last_closed_at,
            last_outcome=last_outcome,
            read_until=read_until,
        )
    return evidence


def _load_associations(
    session: Session, which: ColumnElement[bool]
) -> dict[int, tuple[int, float | None, str | None]]:
    """Return how many associations are open, and when and how the last other one closed."""
    rows = session.execute(
        select(Study.id, Association.id, Association.closed_at, Association.outcome)
        .join(Series, Series.study_id == Study.id)
        .join(Instance, Instance.series_id == Series.id)
        .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
        .join(Association, Association.id == ReceivedObject.association_id)
        .where(which, _is_new())
        .distinct()
        .order_by(Association.closed_at.nulls_first())
    )
    closing: dict[int, tuple[int, float | None, str | None]] = {}
    for study_id, _, closed_at, outcome in rows:
        is_open = closed_at is None
        before = closing.get(study_id, (0, None, None))
        closing[study_id] = (before[0] + is_open, closed_at, outcome)
    return closing
