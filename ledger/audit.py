"""Is the event log as it was written? Walks along the chain of :mod:`ledger.seal`."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ledger.database import describe, transaction
from ledger.errors import LedgerError
from ledger.events import record
from ledger.seal import Head, archived_head, digest_of, raw_columns
from ledger.tables import Event

logger = logging.getLogger(__name__)

CHUNK = 2000
SUBJECT = "events"
"""Of events about the log itself."""
VERIFIED = "audit.verified"
GUARDS = {
    "sqlite": {
        "event_comes_unsealed",
        "event_never_changes",
        "event_never_goes",
        "event_archive_comes_once",
        "event_archive_never_changes",
        "event_archive_never_goes",
    },
    "postgresql": {
        "event_comes_unsealed",
        "event_never_changes",
        "event_never_goes",
        "event_never_goes_at_once",
        "event_archive_never_changes",
        "event_archive_never_goes",
    },
}
"""Triggers by which the database refuses changes."""


@dataclass(frozen=True, slots=True)
class Break:
    """The first place where the log isn't what was written."""

    number: int
    """in the chain"""
    event_id: int | None
    """of the row there; None if there is none"""
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the whole chain has found."""

    first: int
    """number of the first event that is not archived"""
    rows: int
    """events whose seal holds, up to the break if there is one"""
    head: Head
    """the last of them"""
    unsealed: int
    """events that wait for their seal"""
    oldest_unsealed_at: float | None
    anchors: int
    """earlier heads that were compared"""
    broken: Break | None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return self.broken is None


def verify_log(database: Engine, anchors: Sequence[Head] = ()) -> Verification:
    """Compute every digest again, in one snapshot of the database.

    Parameters
    ----------
    anchors
        Heads noted earlier, outside the database: they tell whether the tail is gone, or the whole
        chain was computed anew.

    Raises
    ------
    LedgerError
        The database is unreachable.
    """
    options: dict[str, Any] = {"read_only": True}
    if database.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    try:
        with Session(database.execution_options(**options)) as session:
            return _verify(session, anchors)
    except SQLAlchemyError as error:
        raise LedgerError(f"The ledger can't be read: {describe(error)}.") from error


def verify_and_record(
    database: Engine, anchors: Sequence[Head], *, actor: str, now: float
) -> Verification:
    """Verify the log and write into it what was found, for pages and for the audit repository.

    Raises
    ------
    LedgerError
        The database can't be used.
    """
    started = time.perf_counter()
    found = verify_log(database, anchors)
    detail = {
        "events": found.rows,
        "head": str(found.head),
        "anchors": found.anchors,
        "seconds": round(time.perf_counter() - started, 2),
        "code": found.broken and found.broken.code,
        "message": found.broken and found.broken.message,
    }
    with transaction(database) as session:
        record(session, actor=actor, action=VERIFIED, subject=SUBJECT, detail=detail, now=now)
    if found.broken is not None:
        logger.error("event log: %s: %s", found.broken.code, found.broken.message)
    return found


def last_verification(session: Session) -> Event | None:
    """Return the event of the last verification."""
    return session.scalars(
        select(Event)
        .where(Event.subject == SUBJECT, Event.action == VERIFIED)
        .order_by(Event.id.desc())
        .limit(1)
    ).one_or_none()


def _verify(session: Session, anchors: Sequence[Head]) -> Verification:
    start = archived_head(session)
    wanted = {anchor.number: anchor for anchor in anchors if anchor.number > start.number}
    walk = _Walk(start, wanted)
    with closing(sealed_events(session, start.number)) as rows:
        for row in rows:
            if not walk.step(row):
                break
    unsealed, oldest = session.execute(
        select(func.count(), func.min(Event.at)).where(Event.number.is_(None))
    ).one()
    broken = walk.broken or walk.behind_anchors() or _guards_are_off(session, walk.head)
    return Verification(
        first=start.number + 1,
        rows=walk.head.number - start.number,
        head=walk.head,
        unsealed=unsealed,
        oldest_unsealed_at=oldest,
        anchors=len(wanted),
        broken=broken,
    )


def sealed_events(session: Session, after: int) -> Generator[Row[Any], None, None]:
    """Yield sealed events by their number; close it, the database has a cursor open."""
    columns = raw_columns(session.get_bind().dialect.name)
    query = (
        select(*columns, Event.number.label("number"), Event.digest.label("digest"))
        .where(Event.number > after)
        .order_by(Event.number)
    )
    with session.execute(query, execution_options={"yield_per": CHUNK}) as rows:
        yield from rows  # type: ignore[misc]  # a Result yields rows, whatever its stubs say


class _Walk:
    def __init__(self, start: Head, anchors: dict[int, Head]) -> None:
        self.head = start
        self.broken: Break | None = None
        self._anchors = anchors

    def step(self, row: Row[Any]) -> bool:
        """Go on to the next event; return whether it is the one that was sealed."""
        number = self.head.number + 1
        if row.number != number:
            self.broken = Break(
                number,
                None,
                "EVENT_MISSING",
                f"Event {number} is gone; the next one is number {row.number} (id {row.id}).",
            )
            return False
        try:
            digest = digest_of(number, self.head.digest, row)
        except (TypeError, ValueError, struct.error):
            digest = ""
        if digest != row.digest:
            self.broken = Break(
                number,
                row.id,
                "EVENT_CHANGED",
                f"Event {number} (id {row.id}) isn't what was sealed: it was changed, put in or "
                "moved.",
            )
            return False
        anchor = self._anchors.get(number)
        if anchor is not None and anchor.digest != digest:
            self.broken = Break(
                number,
                row.id,
                "LOG_REWRITTEN",
                f"Event {number} (id {row.id}) has another digest than when it was noted outside: "
                "the log was written anew up to here.",
            )
            return False
        self.head = Head(number, digest)
        return True

    def behind_anchors(self) -> Break | None:
        """Tell whether events are missing at the end that were there once."""
        last = max(self._anchors, default=0)
        if last <= self.head.number:
            return None
        return Break(
            self.head.number + 1,
            None,
            "LOG_TRUNCATED",
            f"The log ends at event {self.head.number}; event {last} was noted outside.",
        )


def _guards_are_off(session: Session, head: Head) -> Break | None:
    """Tell whether the database would let somebody change the log now."""
    dialect = session.get_bind().dialect.name
    if dialect == "sqlite":
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        query = "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') AND NOT tgisinternal"
    missing = sorted(GUARDS[dialect] - set(session.scalars(text(query))))
    if not missing:
        return None
    return Break(
        head.number,
        None,
        "GUARD_MISSING",
        f"The database no longer refuses changes of the log: trigger {', '.join(missing)} is off.",
    )
