"""What may be given up, and why the rest is kept: a study as a whole, its words stay for ever.

Given up are the bytes: images, heatmaps, files of results. Studies, findings, deliveries and events
stay. The ledger says first that bytes are gone, then they go: killed in between, there are bytes
that no row names, which the next run finds; the other way round the ledger would vouch for bytes
that are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session

from ledger.domain import DeliveryState, JobState, ObjectState
from ledger.events import record
from ledger.tables import (
    KEPT,
    Decision,
    Delivery,
    Instance,
    Job,
    PredictionRow,
    ReceivedObject,
    ResultEncoding,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)

ACTOR = "retention"


@dataclass(frozen=True, slots=True)
class Expired:
    """A study that was given up, and the bytes of its images and results."""

    study_instance_uid: str
    size: int


def reasons_to_keep() -> dict[str, ColumnElement[bool]]:
    """Return for each code the condition under which a study must not be given up.

    Only what is at rest and has either reached every destination with its proof settled, or was
    refused visibly, fits none of them.
    """
    of_study = Revision.study_id == Study.id
    jobs = select(Job.id).join(Revision, Job.revision_id == Revision.id).where(of_study)
    decisions = select(Decision.id).join(Revision).where(of_study)
    newest = Revision.superseded_by.is_(None)
    results = (
        select(ResultObjectRow.id)
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(of_study)
    )
    deliveries = (
        select(Delivery.id)
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(of_study)
    )
    sent = exists().where(Delivery.result_object_id == ResultObjectRow.id)
    written = exists().where(ResultObjectRow.decision_id == Decision.id)
    started = select(Revision.id).where(of_study, Revision.started_at.is_not(None))
    unstarted = select(Revision.id).where(of_study, Revision.started_at.is_(None))
    # Not by the indexes of states: SQLite would read everything delivered again for each study.
    job_state, delivery_state = Job.state.concat(""), Delivery.state.concat("")
    live = job_state.in_([JobState.QUEUED, JobState.RUNNING])
    failed = and_(job_state == JobState.FAILED, Job.stage != "deliver", newest)
    return {
        "HELD": Study.held_code.is_not(None),
        "IN_WORK": or_(
            Study.open_since.is_not(None),
            ~_any(started),
            _any(unstarted),
            _any(jobs.where(live)),
        ),
        "FAILED": _any(jobs.where(failed)),
        "DEAD_LETTER": _any(deliveries.where(delivery_state == DeliveryState.DEAD)),
        "NOT_DELIVERED": _any(deliveries.where(delivery_state == DeliveryState.PENDING)),
        "NOT_PROVEN": _any(
            deliveries.where(delivery_state == DeliveryState.DELIVERED, Delivery.proof.is_(None))
        ),
        "NOT_SENT": or_(
            _any(results.where(newest, ~sent)),
            _any(decisions.where(newest, Decision.is_accepted, ~written)),
        ),
    }


def _any(of_study: Select[Any]) -> ColumnElement[bool]:
    """Look study by study: without the offset PostgreSQL reads whole tables for a few of them."""
    return of_study.offset(0).exists()


def _present(before: float) -> ColumnElement[bool]:
    return and_(Study.expired_at.is_(None), Study.last_received_at < before)


def removable(before: float, limit: int | None) -> Select[int]:
    """Return the query for ids of studies that may go, the longest here first.

    Parameters
    ----------
    before
        Their last object came before this time, in seconds since 1970 UTC.
    """
    reasons = reasons_to_keep().values()
    return (
        select(Study.id)
        .where(_present(before), ~or_(*reasons))
        .order_by(Study.last_received_at)
        .limit(limit)
    )


def kept_because(session: Session, before: float) -> dict[str, int]:
    """Return how many studies are kept though they are old enough, by the code of the reason."""
    counts = {}
    for code, condition in reasons_to_keep().items():
        query = select(func.count()).select_from(Study).where(_present(before), condition)
        counts[code] = int(session.scalar(query) or 0)
    return {code: count for code, count in counts.items() if count}


def kept_bytes(session: Session) -> int:
    """Return the bytes of everything that is kept: received objects and results."""
    received = session.scalar(select(func.sum(ReceivedObject.size)).where(KEPT))
    results = session.scalar(
        select(func.sum(ResultObjectRow.size))
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .join(Study, Revision.study_id == Study.id)
        .where(Study.expired_at.is_(None))
    )
    return int(received or 0) + int(results or 0)


def study_bytes(session: Session, study_id: int) -> int:
    """Return the bytes of a study's images and results."""
    received = session.scalar(
        select(func.sum(ReceivedObject.size)).where(ReceivedObject.id.in_(_objects(study_id)))
    )
    results = session.scalar(
        select(func.sum(ResultObjectRow.size)).where(ResultObjectRow.id.in_(_results(study_id)))
    )
    return int(received or 0) + int(results or 0)


def expire(session: Session, study_id: int, *, why: str, now: float) -> Expired | None:
    """Give up a study, if nothing speaks against it any more; None if something does.

    Parameters
    ----------
    why
        The rule: ``age`` or ``size``.
    """
    locked = select(Study).where(Study.id == study_id).with_for_update(skip_locked=True)
    study = session.scalar(locked)
    query = select(Study.id).where(Study.id == study_id, Study.expired_at.is_(None))
    if study is None or session.scalar(query.where(~or_(*reasons_to_keep().values()))) is None:
        return None
    size = study_bytes(session, study_id)
    session.execute(
        update(ReceivedObject)
        .where(ReceivedObject.id.in_(_objects(study_id)))
        .values(state=ObjectState.EXPIRED)
        .execution_options(synchronize_session=False)
    )
    study.expired_at = study.remove_results_until = study.changed_at = now
    record(
        session,
        actor=ACTOR,
        action="study.expired",
        subject=study.study_instance_uid,
        detail={"rule": why, "bytes": size},
        now=now,
    )
    return Expired(study.study_instance_uid, size)


def files_to_remove(session: Session, limit: int) -> dict[int, list[str]]:
    """Return the keys of files of studies that were given up, by study id."""
    studies = session.execute(
        select(Study.id, Study.remove_results_until)
        .where(Study.remove_results_until.is_not(None))
        .limit(limit)
    ).all()
    return {study_id: _keys(session, study_id, until) for study_id, until in studies}


def note_removed(session: Session, study_ids: Sequence[int]) -> None:
    """Record that the files of studies are removed."""
    session.execute(
        update(Study)
        .where(Study.id.in_(study_ids))
        .values(remove_results_until=None)
        .execution_options(synchronize_session=False)
    )


def _objects(study_id: int) -> Select[int]:
    return (
        select(Instance.received_object_id)
        .join(Series, Instance.series_id == Series.id)
        .where(Series.study_id == study_id)
    )


def _decisions(study_id: int, until: float | None = None) -> Select[int]:
    decisions = select(Decision.id).join(Revision).where(Revision.study_id == study_id)
    return decisions if until is None else decisions.where(Revision.created_at <= until)


def _results(study_id: int, until: float | None = None) -> Select[int]:
    return select(ResultObjectRow.id).where(
        ResultObjectRow.decision_id.in_(_decisions(study_id, until))
    )


def _keys(session: Session, study_id: int, until: float | None) -> list[str]:
    decisions = _decisions(study_id, until)
    queries = (
        select(ResultObjectRow.path).where(ResultObjectRow.decision_id.in_(decisions)),
        select(ResultEncoding.path).where(
            ResultEncoding.result_object_id.in_(_results(study_id, until))
        ),
        select(PredictionRow.artifact).where(PredictionRow.decision_id.in_(decisions)),
    )
    return [key for query in queries for key in session.scalars(query)]
