"""Gauges of the ledger, each from an index over open rows: cheap however much has been done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import Session

from ledger.database import clock_of, reading
from ledger.domain import DeliveryState, JobState, ObjectState
from ledger.seal import read_head
from ledger.tables import (
    AuditForwarding,
    Delivery,
    Event,
    Job,
    ReceivedObject,
    Revision,
    Study,
    Worker,
)
from pacsight.heartbeat import DEAD_AFTER_S
from pacsight.work import Stage

Rows: TypeAlias = dict[tuple[str, ...], float]
Figures: TypeAlias = Mapping[str, tuple[str, Sequence[str], Rows]]
"""Name to description, label names, and values by label values."""
QUEUES = ("intake", "cpu", "predict", "deliver")


def read_figures(database: Engine) -> Figures:
    """Return what waits, how long, and who works.

    Raises
    ------
    LedgerError
        The database is unreachable.
    """
    is_quarantined = ReceivedObject.state == ObjectState.QUARANTINED
    with reading(database) as session:
        unread = _count_and_oldest(
            session,
            select(func.count(), func.min(ReceivedObject.received_at)).where(
                ReceivedObject.state == ObjectState.RECEIVED
            ),
        )
        unsealed = _count_and_oldest(
            session, select(func.count(), func.min(Event.at)).where(Event.number.is_(None))
        )
        jobs, oldest_job = _jobs(session)
        deliveries, oldest_delivery = _deliveries(session)
        now = session.scalars(select(clock_of(session))).one()
        oldest = {
            "object": unread[1],
            "study": session.scalar(select(func.min(Study.open_since))),
            "revision": session.scalar(
                select(func.min(Revision.created_at)).where(Revision.started_at.is_(None))
            ),
            "job": oldest_job,
            "delivery": oldest_delivery,
            "event": unsealed[1],
        }
        ages: Rows = {
            (what,): max(0.0, now - since) if since else 0.0 for what, since in oldest.items()
        }
        return {
            "pacsight_objects_waiting": ("Received and not read yet", [], {(): unread[0]}),
            "pacsight_jobs": ("Jobs that wait, run or have failed", ["stage", "state"], jobs),
            "pacsight_oldest_waiting_seconds": ("Age of the oldest that waits", ["what"], ages),
            "pacsight_deliveries": (
                "Results on their way, and dead letters",
                ["destination", "state"],
                deliveries,
            ),
            "pacsight_studies_held": (
                "Studies that a person has to decide about",
                [],
                {(): _count(session, Study, Study.held_code.is_not(None))},
            ),
            "pacsight_objects_quarantined": (
                "Received objects that can't be read",
                [],
                {(): _count(session, ReceivedObject, is_quarantined)},
            ),
            "pacsight_workers_alive": (
                "Workers with a fresh sign of life, by queue",
                ["queue"],
                _workers(session),
            ),
            "pacsight_events_unsealed": (
                "Events outside the chain of the event log",
                [],
                {(): unsealed[0]},
            ),
            "pacsight_events_unsent": (
                "Sealed events that an audit collector waits for",
                ["collector"],
                _unsent(session),
            ),
        }


def _count(session: Session, table: type[Study | ReceivedObject], condition: Any) -> int:
    return int(session.scalar(select(func.count()).select_from(table).where(condition)) or 0)


def _count_and_oldest(session: Session, query: Select[int, float]) -> tuple[int, float | None]:
    count, oldest = session.execute(query).one()
    return int(count), oldest


def _jobs(session: Session) -> tuple[Rows, float | None]:
    states = (JobState.QUEUED, JobState.RUNNING, JobState.FAILED)
    counts: Rows = {(str(stage), str(state)): 0 for stage in Stage for state in states}
    oldest = None
    rows = session.execute(
        select(Job.stage, Job.state, func.count(), func.min(Job.created_at))
        .where(Job.state.in_(states))
        .group_by(Job.stage, Job.state)
    )
    for stage, state, count, since in rows:
        counts[stage, state] = count
        if state != JobState.FAILED:
            oldest = min(since, oldest or since)
    return counts, oldest


def _deliveries(session: Session) -> tuple[Rows, float | None]:
    counts: Rows = {}
    oldest = None
    rows = session.execute(
        select(Delivery.destination, Delivery.state, func.count(), func.min(Delivery.queued_at))
        .where(Delivery.state.in_([DeliveryState.PENDING, DeliveryState.DEAD]))
        .group_by(Delivery.destination, Delivery.state)
    )
    for destination, state, count, since in rows:
        counts[destination, state] = count
        if state == DeliveryState.PENDING:
            oldest = min(since, oldest or since)
    return counts, oldest


def _workers(session: Session) -> Rows:
    counts: Rows = dict.fromkeys(((queue,) for queue in QUEUES), 0)
    fresh = Worker.seen_at >= clock_of(session) - DEAD_AFTER_S
    for queues in session.scalars(select(Worker.queues).where(fresh)):
        for queue in queues.split(","):
            counts[queue,] = counts.get((queue,), 0) + 1
    return counts


def _unsent(session: Session) -> Rows:
    head = read_head(session).number
    rows = session.execute(select(AuditForwarding.collector, AuditForwarding.sent_number))
    return {(collector,): max(0, head - sent) for collector, sent in rows}
