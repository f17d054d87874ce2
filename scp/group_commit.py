"""Many receiving threads, one COMMIT for all who wait.

Whoever gets the lock commits for everybody in the queue, so a slow sync is shared and a fast one
costs no hand-over to another thread. Ends of associations are written by a thread of their own: no
sender waits for them, and they are tried again until they are in.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from sqlalchemy import Engine, update

from ledger.database import transaction
from ledger.errors import LedgerError
from ledger.tables import Association
from scp.errors import CommitError
from scp.ledger_writer import AssociationEnd, AssociationRecord, LedgerWriter, ObjectRow

LOGGER = logging.getLogger(__name__)
RETRY_S = 0.5  # between attempts to write the end of an association


@dataclass(slots=True, eq=False)
class _Job:
    record: AssociationRecord
    row: ObjectRow
    error: LedgerError | None = None
    is_done: bool = False


class GroupCommit:
    """Commits received objects and association ends; safe for use by many threads.

    Parameters
    ----------
    timeout_s
        Longest wait for the ledger's lock, in seconds. One who joins behind a waiting group may
        wait twice as long.
    """

    def __init__(self, engine: Engine, *, timeout_s: float) -> None:
        self._writer = LedgerWriter(engine, timeout_s=timeout_s)
        self._lock = threading.Lock()  # of the writer
        # A deque: a list that is swapped for an empty one loses who appends at that moment.
        self._queue: deque[_Job] = deque()
        self._ends: deque[AssociationEnd] = deque()
        self._ends_changed = threading.Condition()
        self._is_stopping = False
        self._ender = threading.Thread(
            target=self._write_ends, name="association-ends", daemon=True
        )

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
            self._writer.close()

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
            self._ends.append(AssociationEnd(record.id, outcome, time.time()))
            self._ends_changed.notify()

    def _lead(self) -> None:
        group: list[_Job] = []
        while self._queue:
            group.append(self._queue.popleft())
        for job in group:  # nobody in the group is acknowledged unless the line after insert runs
            job.is_done, job.error = True, LedgerError("The commit was broken off.")
        try:
            self._writer.insert([(job.record, job.row) for job in group])
        except LedgerError as error:
            LOGGER.error("%d received objects are not acknowledged: %s", len(group), error)
            for job in group:
                job.error = error
        else:
            for job in group:
                job.error = None

    def _write_ends(self) -> None:
        while True:
            with self._ends_changed:
                self._ends_changed.wait_for(lambda: self._ends or self._is_stopping)
                if not self._ends:
                    return
                ends = list(self._ends)
            try:
                with self._lock:
                    self._writer.close_associations(ends)
            except LedgerError as error:
                LOGGER.warning("association ends wait: %s", error)
                with self._ends_changed:
                    if self._is_stopping:
                        return  # the next start closes them as lost
                    self._ends_changed.wait_for(lambda: self._is_stopping, RETRY_S)
                continue
            for _ in ends:
                self._ends.popleft()


def close_lost_associations(engine: Engine, listener: str) -> None:
    """Close what a listener of this name left open when it died.

    Raises
    ------
    LedgerError
        The ledger can't be written.
    """
    with transaction(engine) as session:
        session.execute(
            update(Association)
            .where(Association.listener == listener, Association.closed_at.is_(None))
            .values(outcome="lost", closed_at=time.time())
        )
