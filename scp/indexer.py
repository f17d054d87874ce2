"""From acknowledged objects to studies, series and instances.

Objects are taken in the order of their rows, read outside any transaction, and written in small
ones, so that the listener's commits hardly wait. Killed anywhere, the next run starts again with
what is still ``received``. Bytes are never changed or removed here.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from ledger.database import describe, reading, transaction
from ledger.domain import ObjectState
from ledger.errors import LedgerError, UnreadableError
from ledger.tables import ReceivedObject
from scp.errors import SpoolError
from scp.header import ObjectHeader, read_header
from scp.index_rows import INDEXER, Outcome, Quarantined, write_outcomes
from scp.spool import open_object

logger = logging.getLogger(__name__)

BATCH = 64
"""objects a transaction"""

READ_LOCK = 0x50414358
WRITE_LOCK = 0x50414359
"""PostgreSQL advisory locks: one process reads, and whatever happens only one writes"""


@dataclass(frozen=True, slots=True)
class _Unread:
    id: int
    sop_instance_uid: str
    transfer_syntax_uid: str
    segment: str
    offset: int
    size: int


def index_received(engine: Engine, spool_dir: Path, *, now: float, limit: int = 500) -> int:
    """Move received objects on: indexed, duplicate, own result or quarantined.

    Any number of processes may call it. On PostgreSQL one at a time does the work and the others
    return 0, because versions of an instance must be counted in the order they came.

    Parameters
    ----------
    now
        Time for the events, in seconds since 1970-01-01 UTC.
    limit
        Objects at most.

    Returns
    -------
    int
        Rows that left the state ``received``.

    Raises
    ------
    LedgerError
        The database is unreachable or stayed locked.
    SpoolError
        The spool can't be read at present; nothing is lost, call again.
    """
    moved = 0
    with _only_reader(engine) as is_reader:
        while is_reader and moved < limit:
            rows = _next_unread(engine, min(BATCH, limit - moved))
            if not rows:
                break
            moved += _write(engine, [(row.id, _read(spool_dir, row)) for row in rows], now)
    return moved


@contextmanager
def _only_reader(engine: Engine) -> Iterator[bool]:
    if engine.dialect.name != "postgresql":
        yield True
        return
    with reading(engine) as session:  # the lock ends with this transaction, or this process
        yield bool(session.scalar(select(func.pg_try_advisory_xact_lock(READ_LOCK))))


def _next_unread(engine: Engine, limit: int) -> list[_Unread]:
    columns = (
        ReceivedObject.id,
        ReceivedObject.sop_instance_uid,
        ReceivedObject.transfer_syntax_uid,
        ReceivedObject.segment,
        ReceivedObject.offset,
        ReceivedObject.size,
    )
    with reading(engine) as session:
        rows = session.execute(
            select(*columns)
            .where(ReceivedObject.state == ObjectState.RECEIVED)
            .order_by(ReceivedObject.id)
            .limit(limit)
        )
        return [_Unread(*row) for row in rows]


def _read(spool_dir: Path, row: _Unread) -> ObjectHeader | Quarantined:
    try:
        with open_object(spool_dir, row.segment, row.offset, row.size) as file:
            return read_header(file, row.sop_instance_uid, row.transfer_syntax_uid)
    except UnreadableError as error:
        return Quarantined(error.code, str(error))
    except SpoolError as error:
        if isinstance(error.__cause__, OSError) and not isinstance(
            error.__cause__, FileNotFoundError
        ):
            raise  # no permission, no descriptors: true of all objects, and it passes
        if not any(spool_dir.glob("*.seg")):
            raise SpoolError(
                f"{spool_dir} holds nothing though objects were received; is it the receiver's?"
            ) from error  # not mounted, or another machine's: the objects are not lost
        return Quarantined("SPOOL_MISSING", f"{error} Restore the spool or send the study again.")
    except OSError as error:
        if error.errno != errno.EIO:
            raise SpoolError(f"The spool can't be read: {error.strerror}.") from error
        return Quarantined("SPOOL_DAMAGED", "The disk can't read these bytes; send it again.")


def _write(engine: Engine, outcomes: Sequence[tuple[int, Outcome]], now: float) -> int:
    try:
        with transaction(engine) as session:
            _lock(session)
            return write_outcomes(session, outcomes, now)
    except (DataError, IntegrityError) as error:
        # One object that the database won't take must not hold up the others.
        if len(outcomes) > 1:
            return sum(_write(engine, [outcome], now) for outcome in outcomes)
        object_id, outcome = outcomes[0]
        if isinstance(outcome, Quarantined):
            raise LedgerError(f"The ledger can't be written: {describe(error)}.") from error
        logger.error(
            "%s: object %d is refused by the ledger: %s",
            INDEXER,
            object_id,
            type(error.orig).__name__,
        )
        refusal = Quarantined("LEDGER_REFUSED", f"The ledger refused it: {describe(error)}.")
        return _write(engine, [(object_id, refusal)], now)


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(WRITE_LOCK)))
