"""What administrators ask: how much is under way, what happened, what is stuck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.domain import DeliveryState, JobState, ObjectState
from ledger.tables import (
    CommitmentRequest,
    Delivery,
    Event,
    Job,
    ReceivedObject,
    Revision,
    Study,
)


@dataclass(frozen=True, slots=True)
class EventSearch:
    """Which events; empty fields ask nothing."""

    actor: str = ""
    action: str = ""
    """or its beginning: ``study.``"""
    subject: str = ""
    since: float | None = None
    until: float | None = None
    """without this moment itself"""
    before_id: int | None = None


def queue_figures(session: Session) -> dict[str, int]:
    """Return how many jobs, deliveries and objects wait, run or have failed."""
    jobs = _counts(session, Job.state, JobState.QUEUED, JobState.RUNNING, JobState.FAILED)
    deliveries = _counts(session, Delivery.state, DeliveryState.PENDING, DeliveryState.DEAD)
    unread = session.scalar(
        select(func.count())
        .select_from(ReceivedObject)
        .where(ReceivedObject.state == ObjectState.RECEIVED)
    )
    return {**jobs, **deliveries, "unread": int(unread or 0)}


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """How deliveries stand."""

    oldest_undelivered_at: float | None
    """when the result was queued that has waited longest, or is dead longest"""
    dead: int
    unproven: int
    unanswered: int
    """requests of others for storage commitment"""


def outbox_figures(session: Session) -> OutboxFigures:
    """Return how deliveries and storage commitment stand."""
    undelivered = Delivery.state.in_([DeliveryState.PENDING, DeliveryState.DEAD])
    dead = Delivery.state == DeliveryState.DEAD

    def count(of: Any, condition: Any) -> int:
        return int(session.scalar(select(func.count()).select_from(of).where(condition)) or 0)

    return OutboxFigures(
        session.scalar(select(func.min(Delivery.queued_at)).where(undelivered)),
        count(Delivery, dead),
        count(Delivery, Delivery.proof_due_at.is_not(None)),
        count(CommitmentRequest, CommitmentRequest.next_attempt_at.is_not(None)),
    )


def _counts(session: Session, column: Any, *states: str) -> dict[str, int]:
    rows = session.execute(
        select(column, func.count()).where(column.in_(states)).group_by(column)
    ).all()
    found = {str(state): int(count) for state, count in rows}
    return {str(state): found.get(str(state), 0) for state in states}


def open_jobs(session: Session, limit: int = 50) -> list[tuple[Job, str]]:
    """Return jobs that wait or run, the oldest first, then the last that failed.

    With each its Study Instance UID.
    """
    query = (
        select(Job, Study.study_instance_uid)
        .join(Revision, Revision.id == Job.revision_id)
        .join(Study, Study.id == Revision.study_id)
        .limit(limit)
    )
    live = query.where(Job.state.in_([JobState.QUEUED, JobState.RUNNING])).order_by(Job.created_at)
    failed = query.where(Job.state == JobState.FAILED).order_by(Job.created_at.desc())
    return [(job, uid) for one in (live, failed) for job, uid in session.execute(one)]


def find_events(session: Session, search: EventSearch, limit: int = 100) -> list[Event]:
    """Return events, the newest first."""
    query = select(Event).order_by(Event.id.desc()).limit(limit)
    if search.actor:
        query = query.where(Event.actor == search.actor)
    if search.action:
        query = query.where(Event.action.startswith(search.action, autoescape=True))
    if search.subject:
        query = query.where(Event.subject == search.subject)
    if search.since is not None:
        query = query.where(Event.at >= search.since)
    if search.until is not None:
        query = query.where(Event.at < search.until)
    if search.before_id is not None:
        query = query.where(Event.id < search.before_id)
    return list(session.scalars(query))


def last_ready_workers(session: Session, limit: int = 10) -> list[Event]:
    """Return when workers last said that they are ready, the newest first, one for each name."""
    rows = session.scalars(
        select(Event)
        .where(Event.subject == "worker", Event.action == "worker.ready")
        .order_by(Event.id.desc())
        .limit(10 * limit)
    )
    newest: dict[str, Event] = {}
    for row in rows:
        newest.setdefault(row.actor, row)
    return list(newest.values())[:limit]
