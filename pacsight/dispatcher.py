"""What has to be started, found in the ledger: the one loop that closes every gap.

A unit is started when the ledger says so and marked as started afterwards. A process killed in
between starts it again under the same key, which the engine takes as the same unit. So nothing
depends on a message that could get lost: objects become instances, quiet studies become revisions,
revisions become route jobs, due outbox rows become delivery attempts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.domain import DeliveryState, JobState
from ledger.errors import PacsightError
from ledger.tables import Decision, Delivery, Job, ResultObjectRow, Revision
from ledger.worklist import refresh_worklist
from pacsight.engine import DurableEngine
from pacsight.heartbeat import living_spools
from pacsight.monitoring.past import tell_past
from pacsight.monitoring.tracing import OFF, Tracer
from pacsight.peers import QueryJournal, ask_source
from pacsight.settings import Settings
from pacsight.stages.deliver import pending, postpone
from pacsight.work import Stage, Work, job_failed, job_queued
from scp.evidence import EvidenceReader
from scp.indexer import index_received
from scp.revisions import close_complete_studies
from scp.sources import Sources

logger = logging.getLogger(__name__)

TICK_S = 0.1
RECONCILE_S = 10.0
PATIENCE_AFTER_ERROR_S = 2.0
FORGET_AFTER_S = 7 * 86400.0
"""How long the engine keeps its notes of work that has ended; the ledger keeps what came of it."""


class Dispatcher:
    """The loop. One runs in each worker that serves intake; several at once do no harm."""

    def __init__(
        self,
        settings: Settings,
        database: Engine,
        engine: DurableEngine,
        clock: Callable[[], float],
        tracer: Tracer = OFF,
    ) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._clock = clock
        self._tracer = tracer
        ask = partial(ask_source, settings.scp.ae_title, QueryJournal(database, clock))
        self._sources = Sources(settings.sources, ask)
        self._reader = EvidenceReader(self._sources)
        self._shared_store = settings.open_shared_store()

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set; what may pass, such as a locked ledger, is waited for."""
        reconciled_at = self._clock()
        while not stop.is_set():
            try:
                busy = self.tick()
                if self._clock() - reconciled_at > RECONCILE_S:
                    self.reconcile()
                    reconciled_at = self._clock()
                    self._engine.forget(reconciled_at - FORGET_AFTER_S)
                stop.wait(0 if busy else TICK_S)
            except PacsightError as error:
                if not error.retryable:
                    raise
                logger.warning("waiting: %s: %s", error.code, error)
                stop.wait(PATIENCE_AFTER_ERROR_S)
        self._sources.stop()

    def tick(self) -> bool:
        """Do what is due now; tell whether there was anything."""
        now = self._clock()
        indexed = index_received(
            self._database, self._settings.spool_dir, now=now, store=self._shared_store
        )
        if self._shared_store is not None:
            self._reader.spools = living_spools(self._database)
        closed = close_complete_studies(
            self._database,
            self._settings.completeness,
            now=now,
            reader=self._reader,
            stat_rules=self._settings.stat,
        )
        started = self._start_revisions() + self._start_deliveries()
        shown = refresh_worklist(self._database)
        return bool(started + indexed + len(closed) + shown)

    def _start_revisions(self) -> int:
        with reading(self._database) as session:
            waiting = session.execute(
                select(Revision.id, Revision.is_stat)
                .where(Revision.started_at.is_(None))
                .order_by(Revision.is_stat.desc(), Revision.id)
            ).all()
        for revision_id, is_stat in waiting:
            self._submit(Work(Stage.ROUTE, revision_id, is_stat=is_stat), "study")
            with transaction(self._database) as session:
                session.get_one(Revision, revision_id).started_at = self._clock()
            if self._tracer.is_on:
                with reading(self._database) as session:
                    tell_past(session, self._tracer, revision_id, self._clock())
        return len(waiting)

    def _start_deliveries(self) -> int:
        with reading(self._database) as session:
            due = due_deliveries(session, self._clock())
        for work in due:
            self._submit(work, work.destination)
            with transaction(self._database) as session:
                mark_started(session, work)
        return len(due)

    def _submit(self, work: Work, subject: str) -> None:
        with transaction(self._database) as session:
            job_queued(session, work, subject, self._clock())
        self._engine.submit(work)

    def reconcile(self) -> None:
        """Give a coded end to jobs that the engine has given up, such as one that kills workers."""
        with reading(self._database) as session:
            live = session.scalars(
                select(Job.id).where(Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
            ).all()
        for key, word in self._engine.ended_without_result(live).items() if live else ():
            with transaction(self._database) as session:
                job = session.get_one(Job, key)
                code = job.error_code or "JOB_GIVEN_UP"
                last = job.error or "It ended its worker each time; see the log."
                job_failed(session, key, code, f"{last} Given up; replay the study.", self._clock())
                self._postpone(session, key)
            logger.error("%s given up: %s", key, word)

    def _postpone(self, session: Session, key: str) -> None:
        job = session.get_one(Job, key)
        if job.stage == Stage.DELIVER:
            _, decision_id, destination, attempt = key.split(":")
            work = Work(Stage.DELIVER, job.revision_id, int(decision_id), destination, int(attempt))
            postpone(session, work, self._settings.delivery, self._clock())


def due_deliveries(session: Session, now: float) -> list[Work]:
    """Return one unit per decision and destination with pending rows that are due.

    The attempt's number is new for all rows of the two, whatever became of them, so that its key
    was never used before.
    """
    due = session.execute(
        select(
            ResultObjectRow.decision_id,
            Decision.revision_id,
            Revision.is_stat,
            Delivery.destination,
        )
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.next_attempt_at <= now)
        .group_by(
            ResultObjectRow.decision_id,
            Decision.revision_id,
            Revision.is_stat,
            Delivery.destination,
        )
        .order_by(Revision.is_stat.desc(), func.min(Delivery.id))
    ).all()
    return [
        Work(
            Stage.DELIVER,
            revision_id,
            decision_id,
            destination,
            _attempts(session, decision_id, destination) + 1,
            is_stat,
        )
        for decision_id, revision_id, is_stat, destination in due
    ]


def _attempts(session: Session, decision_id: int, destination: str) -> int:
    return session.execute(
        select(func.max(Delivery.attempts))
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .where(ResultObjectRow.decision_id == decision_id, Delivery.destination == destination)
    ).scalar_one()


def mark_started(session: Session, work: Work) -> None:
    """Take the date off what an attempt is about, unless the attempt has settled it already."""
    rows = [row.id for row, _, _ in pending(session, work)]
    session.execute(
        update(Delivery)
        .where(
            Delivery.id.in_(rows),
            Delivery.state == DeliveryState.PENDING,
            Delivery.attempts < work.attempt,
        )
        .values(next_attempt_at=None)
        .execution_options(synchronize_session=False)
    )
