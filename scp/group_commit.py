"""The ledger side of reception: many threads, one connection, one COMMIT for all who wait.

Whoever gets the lock commits for everybody in the queue, so a slow sync is shared and a fast one
costs no hand-over to another thread. Ends of associations are written by a thread of their own: no
sender waits for them, and they are tried again until they are in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from sqlalchemy import Connection, Engine, bindparam, insert, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ledger.database import describe, transaction
from ledger.tables import Association, ReceivedObject
from scp.errors import CommitError

LOGGER = logging.getLogger(__name__)
RETRY_S = 0.5  # between attempts to write the end of an association

_INSERT_ASSOCIATION = insert(Association)
_INSERT_OBJECT = insert(ReceivedObject)
_CLOSE_ASSOCIATION = (
    update(Association)
    .where(Association.id == bindparam("key"))
    .values(outcome=bindparam("end"), closed_at=bindparam("at"))
)


class ObjectRow(TypedDict):
    """What :class:`ledger.tables.ReceivedObject` gets, but for the association."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    segment: str
    offset: int
    size: int
    received_at: float
    state: str


@dataclass(slots=True, eq=False)
class AssociationRecord:
    """An association as the ledger knows it; `id` is None until its first object is committed."""

    listener: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    opened_at: float
    id: int | None = None


@dataclass(slots=True, eq=False)
class _Job:
    record: AssociationRecord
    row: ObjectRow
    error: SQLAlchemyError | None = None
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class _End:
    association_id: int
    outcome: str
    closed_at: float


class GroupCommit:
    """Commits received objects and association ends; safe for use by many threads.

    Parameters
    ----------
    timeout_s
        Longest wait for the ledger's lock, in seconds. One who joins behind a waiting group may
        wait twice as long.
    """

    def __init__(self, engine: Engine, *, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_ms = int(timeout_s * 1000)
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._queue: deque[_Job] = deque()  # append and popleft are atomic
        self._ends: deque[_End] = deque()
        self._ends_changed = threading.Condition()
        self._is_stopping = False
        self._ender = threading.Thread(target=self._write_ends, name="association-ends")

    def start(self) -> None:
        """Start writing association ends."""
        self._ender.start()

    def stop(self) -> None:
        """Write what is left, if the ledger lets us, and close the connection."""
        with self._ends_changed:
            self._is_stopping = True
            self._ends_changed.notify()
        self._ender.join()
        with self._lock:
            self._disconnect()

    def store(self, record: AssociationRecord, row: ObjectRow) -> None:
        """Return when the row is committed.

        Raises
        ------
        CommitError
            It is not, or nobody knows; all who were in the same group get the same.
        """
        job = _Job(record, row)
        self._queue.append(job)
        with self._lock:
            if not job.is_done:
                self._lead()
        if job.error is not None:
            raise CommitError("The ledger did not commit; send it again later.") from job.error

    def end_association(self, record: AssociationRecord, outcome: str) -> None:
        """Have the association closed in the ledger soon; nothing to do if it stored nothing."""
        if record.id is None:
            return
        with self._ends_changed:
            self._ends.append(_End(record.id, outcome, time.time()))
            self._ends_changed.notify()

    def _lead(self) -> None:
        group: list[_Job] = []
        while self._queue:
            group.append(self._queue.popleft())
        error: SQLAlchemyError | None = None
        try:
            self._insert(group)
        except SQLAlchemyError as caught:
            error = caught
            LOGGER.error("%d received objects were not committed: %s", len(group), describe(caught))
        for job in group:
            job.error = error
            job.is_done = True

    def _insert(self, group: Sequence[_Job]) -> None:
        try:
            connection = self._begin()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            connection = self._begin()  # the server went away while nobody sent: a new connection
        new: dict[AssociationRecord, int] = {}
        try:
            for job in group:
                if job.record.id is None and job.record not in new:
                    new[job.record] = _insert_association(connection, job.record)
            connection.execute(
                _INSERT_OBJECT,
                [{"association_id": job.record.id or new[job.record], **job.row} for job in group],
            )
            connection.commit()
        except SQLAlchemyError:
            self._disconnect()
            raise
        for record, key in new.items():
            record.id = key

    def _begin(self) -> Connection:
        """Return the long-lived connection with a transaction begun."""
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.begin()
        except SQLAlchemyError:
            self._disconnect()
            raise
        return self._connection

    def _connect(self) -> Connection:
        connection = self._engine.connect()
        driver = connection.connection.driver_connection
        assert driver is not None
        connection.detach()  # its settings must not reach others through the pool
        if self._engine.dialect.name == "sqlite":
            settings = f"PRAGMA busy_timeout={self._timeout_ms}"
        else:
            settings = f"SET statement_timeout={self._timeout_ms}; SET synchronous_commit=on"
        cursor = driver.cursor()
        cursor.execute(settings)
        cursor.close()
        driver.commit()
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except SQLAlchemyError as error:
            LOGGER.debug("closing a broken ledger connection: %s", describe(error))

    def _write_ends(self) -> None:
        while True:
            with self._ends_changed:
                self._ends_changed.wait_for(lambda: self._ends or self._is_stopping)
                if not self._ends:
                    return
                ends = list(self._ends)
            if self._update(ends):
                for _ in ends:
                    self._ends.popleft()
                continue
            with self._ends_changed:
                if self._is_stopping:
                    return  # the next start closes them as lost
                self._ends_changed.wait_for(lambda: self._is_stopping, RETRY_S)

    def _update(self, ends: Sequence[_End]) -> bool:
        parameters = [
            {"key": end.association_id, "end": end.outcome, "at": end.closed_at} for end in ends
        ]
        with self._lock:
            try:
                connection = self._begin()
                connection.execute(_CLOSE_ASSOCIATION, parameters)
                connection.commit()
            except SQLAlchemyError as error:
                self._disconnect()
                LOGGER.warning("association ends wait for the ledger: %s", describe(error))
                return False
        return True


def _insert_association(connection: Connection, record: AssociationRecord) -> int:
    result = connection.execute(
        _INSERT_ASSOCIATION,
        {
            "listener": record.listener,
            "calling_ae_title": record.calling_ae_title,
            "called_ae_title": record.called_ae_title,
            "peer_address": record.peer_address,
            "opened_at": record.opened_at,
        },
    )
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def close_lost_associations(engine: Engine, listener: str) -> None:
    """Close what a listener of this name left open when it died.

    Raises
    ------
    ledger.errors.LedgerError
        The ledger can't be written.
    """
    with transaction(engine) as session:
        session.execute(
            update(Association)
            .where(Association.listener == listener, Association.closed_at.is_(None))
            .values(outcome="lost", closed_at=time.time())
        )
