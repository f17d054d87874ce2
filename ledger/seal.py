"""The chain over the event log: each sealed event carries a digest of itself and the one before.

Whoever writes an event appends a row and waits for nobody. One sealer at a time, in any worker,
numbers the rows that are committed and not sealed, in the order in which it finds them; a few times
a second, so that a row stands outside the chain for about a second. See
``docs/decisions/0018-the-event-log-is-a-chain.md`` for what that window means.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    LargeBinary,
    Row,
    Text,
    bindparam,
    cast,
    func,
    select,
    update,
)
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.tables import Event, EventArchive

SEAL_LOCK = 0x5041435B
"""Advisory lock of PostgreSQL; SQLite has but one writer anyway."""
BATCH = 500
"""Events of one transaction: on SQLite nobody else writes meanwhile, a few milliseconds."""
_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends: the number of the last sealed event and its digest."""

    number: int
    digest: str

    def __str__(self) -> str:
        """Return it as ``pacsight audit head`` prints it."""
        return f"{self.number}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what ``str`` wrote.

        Raises
        ------
        ValueError
            It is nothing of the kind.
        """
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise ValueError("write NUMBER:DIGEST, as 'pacsight audit head' prints it")
        return cls(int(found[1]), found[2])


NOTHING = Head(0, "0" * 64)
"""Before the first event."""


def raw_columns(dialect: str) -> list[ColumnElement[Any]]:
    """Return id, time and the other columns of an event as the bytes that the database holds."""
    texts = (Event.actor, Event.action, Event.subject, Event.detail)
    if dialect == "sqlite":  # as bytes: a changed one may not even be UTF-8
        raw: list[Any] = [cast(column, LargeBinary) for column in texts]
    else:
        raw = [func.convert_to(cast(column, Text), "UTF8", type_=LargeBinary) for column in texts]
    names = ("actor", "action", "subject", "detail")
    labelled = [column.label(name) for column, name in zip(raw, names, strict=True)]
    return [Event.id.label("id"), Event.at.label("at"), *labelled]


def digest_of(number: int, before: str, row: Row[Any]) -> str:
    """Return the digest of an event at its place in the chain.

    SHA-256 over number, the digest before, id, time (IEEE 754 double, big endian), actor, action,
    subject and detail, each after its length in 8 bytes.

    Parameters
    ----------
    number
        Its place, from 1.
    before
        Digest of the event at the place before.
    row
        With :func:`raw_columns`.

    Raises
    ------
    ValueError, TypeError, struct.error
        A column holds no value of its type.
    """
    fields = [
        str(number).encode(),
        before.encode(),
        str(row.id).encode(),
        struct.pack(">d", row.at),
    ]
    fields += [bytes(row.actor), bytes(row.action), bytes(row.subject), bytes(row.detail)]
    whole = hashlib.sha256()
    for field in fields:
        whole.update(len(field).to_bytes(8, "big"))
        whole.update(field)
    return whole.hexdigest()


def read_head(session: Session) -> Head:
    """Return where the chain ends now."""
    last = session.execute(
        select(Event.number, Event.digest)
        .where(Event.number.is_not(None))
        .order_by(Event.number.desc())
        .limit(1)
    ).one_or_none()
    return archived_head(session) if last is None else Head(last.number or 0, last.digest or "")


def archived_head(session: Session) -> Head:
    """Return where the chain ended that was moved into files."""
    archive = session.scalars(
        select(EventArchive).order_by(EventArchive.last_number.desc()).limit(1)
    ).one_or_none()
    return NOTHING if archive is None else Head(archive.last_number, archive.digest)


def seal_events(database: Engine, limit: int = BATCH) -> int:
    """Seal up to `limit` events; return how many, 0 if another process is at it.

    Raises
    ------
    ledger.errors.LedgerError
        The database is unreachable or stayed locked.
    """
    with reading(database) as session:
        if session.scalar(select(Event.id).where(Event.number.is_(None)).limit(1)) is None:
            return 0
    with transaction(database) as session:
        dialect = session.get_bind().dialect.name
        if dialect == "postgresql":
            lock = select(func.pg_try_advisory_xact_lock(SEAL_LOCK))
            if not session.scalar(lock):
                return 0
        rows = session.execute(
            select(*raw_columns(dialect))
            .where(Event.number.is_(None))
            .order_by(Event.id)
            .limit(limit)
        ).all()
        _write(session, rows, read_head(session))
        return len(rows)


def _write(session: Session, rows: Sequence[Row[Any]], head: Head) -> None:
    values = []
    for row in rows:
        head = Head(head.number + 1, digest_of(head.number + 1, head.digest, row))
        values.append({"key": row.id, "place": head.number, "seal": head.digest})
    if values:
        session.connection().execute(
            update(Event)
            .where(Event.id == bindparam("key"))
            .values(number=bindparam("place"), digest=bindparam("seal")),
            values,
        )
