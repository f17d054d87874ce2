"""From acknowledged objects to studies, series and instances.

Objects are taken in the order of their rows, read outside any transaction, and written in small
ones, so that the listener's commits hardly wait. Killed anywhere, the next run starts again with
what is still ``received``. Bytes are never changed or removed here.

With several machines each reads its own spool, and what was read goes as one pack into the object
store before the rows are written: a row that says ``indexed`` names bytes that every machine
reaches.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, func, select, true
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from ledger.database import describe, reading, transaction
from ledger.domain import ObjectState
from ledger.errors import LedgerError, UnreadableError
from ledger.store import Store
from ledger.tables import ReceivedObject
from scp.errors import SpoolError
from scp.header import ObjectHeader, read_header
from scp.index_rows import INDEXER, Outcome, Quarantined, write_outcomes
from scp.packing import Unread, pack
from scp.segments import spool_identity
from scp.spool import SpooledObject, open_object

logger = logging.getLogger(__name__)

BATCH = 64
"""objects a transaction"""

READ_LOCK = 0x50414358
WRITE_LOCK = 0x50414359
"""PostgreSQL advisory locks: one process reads a spool, and whatever happens only one writes"""


def index_received(
    engine: Engine, spool_dir: Path, *, now: float, limit: int = 500, store: Store | None = None
) -> int:
    """Move received objects on: indexed, duplicate, own result or quarantined.

    Any number of processes may call it. On PostgreSQL one at a time does the work of a spool and
    the others return 0, because versions of an instance must be counted in the order they came.

    Parameters
    ----------
    now
        Time for the events, in seconds since 1970-01-01 UTC.
    limit
        Objects at most.
    store
        Where packs go that all machines read; None if this is the only one.

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
    spool = None if store is None else spool_identity(spool_dir)
    with _only_reader(engine, spool) as is_reader:
        while is_reader and moved < limit:
            rows = _next_unread(engine, min(BATCH, limit - moved), spool)
            if not rows:
                break
            outcomes = [(row.id, _read(spool_dir, row)) for row in rows]
            places = {} if store is None else pack(rows, spool_dir, store)
            moved += _write(engine, outcomes, places, now)
    return moved


@contextmanager
def _only_reader(engine: Engine, spool: str | None) -> Iterator[bool]:
    if engine.dialect.name != "postgresql":
        yield True
        return
    with reading(engine) as session:  # the lock ends with this transaction, or this process
        lock = READ_LOCK << 32 | int(spool or "0", 16)
        yield bool(session.scalar(select(func.pg_try_advisory_xact_lock(lock))))


def _next_unread(engine: Engine, limit: int, spool: str | None) -> list[Unread]:
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
            .where(true() if spool is None else ReceivedObject.segment.startswith(f"{spool}-"))
            .order_by(ReceivedObject.id)
            .limit(limit)
        )
        return [Unread(*row) for row in rows]


def _read(spool_dir: Path, row: Unread) -> ObjectHeader | Quarantined:
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


def _write(
    engine: Engine,
    outcomes: Sequence[tuple[int, Outcome]],
    places: Mapping[int, SpooledObject],
    now: float,
) -> int:
    try:
        with transaction(engine) as session:
            _lock(session)
            return write_outcomes(session, outcomes, now, places)
    except (DataError, IntegrityError) as error:
        # One object that the database won't take must not hold up the others.
        if len(outcomes) > 1:
            return sum(_write(engine, [outcome], places, now) for outcome in outcomes)
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
        return _write(engine, [(object_id, refusal)], places, now)


def _lock(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(WRITE_LOCK)))
