"""Old events into files, without a break of the chain: the only way in which an event may go.

A file holds a stretch of the chain, one event a line. Its last digest stays in the database, and
the chain goes on from there; the database lets nothing be deleted that isn't in a file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from ledger.audit import sealed_events
from ledger.database import reading, transaction
from ledger.errors import ArchiveError
from ledger.events import record
from ledger.seal import NOTHING, Head, archived_head, digest_of
from ledger.tables import AuditForwarding, Event, EventArchive

DELETED_AT_ONCE = 5000


class _Line(NamedTuple):
    """An event in a file, with the columns that :func:`ledger.seal.digest_of` reads."""

    id: int
    at: float
    actor: bytes
    action: bytes
    subject: bytes
    detail: bytes


def archive_events(
    database: Engine, folder: Path, *, before: float, actor: str, now: float
) -> EventArchive | None:
    """Move sealed events from before a time into a file of `folder`; None if there are none.

    Events that a collector of audit messages still waits for stay.

    Parameters
    ----------
    before
        Seconds since 1970 UTC.
    actor
        Who wants it.

    Raises
    ------
    ArchiveError
        The chain is broken there, or the file can't be written: nothing is deleted.
    """
    _delete_archived(database)
    with reading(database) as session:
        start = archived_head(session)
        last = _last_before(session, before, start.number)
        if last <= start.number:
            return None
        path = folder / f"events-{start.number + 1}-{last}.jsonl.gz"
        head = _write(session, path, start, last)
    row = EventArchive(
        first_number=start.number + 1,
        last_number=head.number,
        digest=head.digest,
        file=path.name,
        sha256=_sha256(path),
        archived_at=now,
    )
    with transaction(database) as session:
        if archived_head(session) != start:
            raise ArchiveError("Somebody else archives at the same time; look and try again.")
        session.add(row)
        detail = {"first": row.first_number, "last": row.last_number, "sha256": row.sha256}
        record(
            session, actor=actor, action="audit.archived", subject=path.name, detail=detail, now=now
        )
    _delete_archived(database)
    return row


def verify_archive(database: Engine, path: Path) -> EventArchive:
    """Compute the digests of an archived file again and return what the database knows of it.

    Raises
    ------
    ArchiveError
        The database knows no such file, it can't be read, or it isn't what was archived.
    """
    with reading(database) as session:
        archive = session.scalar(select(EventArchive).where(EventArchive.file == path.name))
        if archive is None:
            raise ArchiveError(f"{path.name} is no archive of this event log.")
        previous = session.scalar(
            select(EventArchive).where(EventArchive.last_number == archive.first_number - 1)
        )
    head = NOTHING if previous is None else Head(previous.last_number, previous.digest)
    try:
        for number, digest, line in _lines(path):
            if number != head.number + 1 or digest_of(number, head.digest, line) != digest:
                raise ArchiveError(f"{path.name}: event {number} isn't what was archived.")
            head = Head(number, digest)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path.name} can't be read after event {head.number}.") from error
    if head != Head(archive.last_number, archive.digest):
        raise ArchiveError(
            f"{path.name} ends at event {head.number}, not as archived at {archive.last_number}."
        )
    return archive


def _last_before(session: Session, before: float, archived: int) -> int:
    """Return the number up to which all events are from before a time and sent."""
    first_after = session.scalar(
        select(func.min(Event.number)).where(Event.number > archived, Event.at >= before)
    )
    sealed = session.scalar(select(func.max(Event.number))) or archived
    last = int(sealed if first_after is None else first_after - 1)
    sent = session.scalar(select(func.min(AuditForwarding.sent_number)))
    return last if sent is None else min(last, int(sent))


def _write(session: Session, path: Path, start: Head, last: int) -> Head:
    fresh, head = path.with_name(f".{path.name}"), start
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            with (
                gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
                closing(sealed_events(session, start.number)) as rows,
            ):
                for row in rows:
                    if row.number > last:
                        break
                    number = head.number + 1
                    if row.number != number or digest_of(number, head.digest, row) != row.digest:
                        raise ArchiveError(f"The chain is broken at event {number}; verify it.")
                    packed.write(_line(row))
                    head = Head(number, row.digest)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ArchiveError(f"{path} can't be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return head


def _line(row: Any) -> bytes:
    values = {
        "number": row.number,
        "digest": row.digest,
        "id": row.id,
        "at": row.at,
        "actor": row.actor.decode(),
        "action": row.action.decode(),
        "subject": row.subject.decode(),
        "detail": row.detail.decode(),  # as text: every byte of it is sealed
    }
    return json.dumps(values).encode() + b"\n"


def _lines(path: Path) -> Iterator[tuple[int, str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for text in lines:
            one = json.loads(text)
            texts = (one[name].encode() for name in ("actor", "action", "subject", "detail"))
            yield int(one["number"]), str(one["digest"]), _Line(one["id"], one["at"], *texts)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_archived(database: Engine) -> None:
    """Delete what is in files, a little at a time: on SQLite others wait meanwhile."""
    while True:
        with transaction(database) as session:
            ids = session.scalars(
                select(Event.id)
                .where(Event.number <= archived_head(session).number)
                .order_by(Event.number)
                .limit(DELETED_AT_ONCE)
            ).all()
            if not ids:
                return
            session.execute(delete(Event).where(Event.id.in_(ids)))
