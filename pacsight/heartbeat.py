"""Which workers live, and whose work the others take over.

Each worker renews its row every few seconds by the clock of the database. One whose row is too old
is dead, or cut off: its work goes back into the queues, and the durable engine fences it off should
it come back. That needs nothing in common but the database.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select, update

from ledger.database import clock_of, reading, transaction
from ledger.errors import LedgerError
from ledger.tables import Worker
from pacsight import __version__

logger = logging.getLogger(__name__)

BEAT_S = 5.0
DEAD_AFTER_S = 18.0
"""Silence after which a worker counts as dead: its work is taken over within 30 s."""
INTAKE = "intake"
"""Queue of those that read a spool."""
REAPER_LOCK = 0x5041435A


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker process."""

    name: str
    spool: str
    """identity of its data folder's spool"""
    queues: tuple[str, ...]
    executor_id: str
    """new at each start"""

    @classmethod
    def draw(cls, name: str, spool: str, queues: tuple[str, ...]) -> Identity:
        """Return the identity of a process that starts; it holds the lock of its name."""
        return cls(name, spool, queues, f"{name[:64]}:{spool}:{uuid.uuid4().hex[:12]}")


class Heartbeat:
    """Keeps a worker's row fresh, and takes over from the dead, in a thread of its own.

    Parameters
    ----------
    take_over
        Puts the work of an executor id back into the queues.
    """

    def __init__(
        self, database: Engine, identity: Identity, take_over: Callable[[str], None]
    ) -> None:
        self._database = database
        self._identity = identity
        self._take_over = take_over
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def begin(self) -> None:
        """Write the row, before any work is taken: else nobody would notice this worker's end."""
        self._beat()

    def start(self) -> None:
        """Go on with what earlier starts left, then beat and look after the others."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Say that this worker has ended, so that others needn't wait."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            with transaction(self._database) as session:
                mine = Worker.id == self._identity.executor_id
                session.execute(update(Worker).where(mine).values(seen_at=0.0))
        except LedgerError as error:
            logger.warning("the end of this worker will be noticed later: %s", error)

    def _run(self) -> None:
        while True:
            try:
                self._beat()
                self.reap()
            except LedgerError as error:
                logger.warning("no heartbeat: %s", error)
            except Exception as error:  # noqa: BLE001 - a silent thread would leave us for dead
                logger.error("no heartbeat: %s", type(error).__name__)
            if self._stop.wait(BEAT_S):
                return

    def _beat(self) -> None:
        identity = self._identity
        with transaction(self._database) as session:
            now = session.scalars(select(clock_of(session))).one()
            row = session.get(Worker, identity.executor_id)
            if row is not None:
                row.seen_at = now
                return
            session.add(  # the first time, or after others took us for dead
                Worker(
                    id=identity.executor_id,
                    name=identity.name[:64],
                    queues=",".join(identity.queues),
                    version=__version__[:32],
                    spool=identity.spool,
                    started_at=now,
                    seen_at=now,
                )
            )

    def reap(self) -> list[str]:
        """Take over from dead workers, earlier starts of this one included; return their ids.

        A row goes only after its work is back in the queues, so a reaper that dies in between
        changes nothing.
        """
        with transaction(self._database) as session:
            if session.get_bind().dialect.name == "postgresql":
                lock = select(func.pg_try_advisory_xact_lock(REAPER_LOCK))
                if not session.scalar(lock):
                    return []
            dead = session.scalars(
                select(Worker).where(
                    Worker.id != self._identity.executor_id,
                    or_(Worker.seen_at < clock_of(session) - DEAD_AFTER_S, self._is_earlier_self()),
                )
            ).all()
            for worker in dead:
                self._take_over(worker.id)
                logger.warning("worker %s is gone; its work goes on", worker.name)
                session.delete(worker)
            return [worker.id for worker in dead]

    def _is_earlier_self(self) -> ColumnElement[bool]:
        return and_(Worker.name == self._identity.name[:64], Worker.spool == self._identity.spool)


def living_spools(database: Engine) -> list[str]:
    """Return the spools that a living worker reads."""
    with reading(database) as session:
        fresh = Worker.seen_at >= clock_of(session) - DEAD_AFTER_S
        rows = session.execute(select(Worker.spool, Worker.queues).where(fresh))
        return [spool for spool, queues in rows if INTAKE in queues.split(",")]
