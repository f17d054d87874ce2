"""The event log is a chain that nobody can bend unseen, on both databases."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from ledger.audit import verify_log
from ledger.database import reading, transaction
from ledger.errors import ArchiveError
from ledger.event_archive import archive_events, verify_archive
from ledger.events import record
from ledger.seal import Head, digest_of, raw_columns, read_head, seal_events
from ledger.tables import AuditForwarding, Event


def write(engine: Engine, count: int, start: int = 0) -> None:
    with transaction(engine) as session:
        for number in range(start, start + count):
            record(
                session, actor=f"writer-{number}", action="test.done", subject=f"1.2.{number}",
                detail={"note": "größer", "number": number}, now=1000.0 + number,
            )  # fmt: skip


def seal_all(engine: Engine) -> Head:
    while seal_events(engine):
        pass
    with reading(engine) as session:
        return read_head(session)


@contextmanager
def unguarded(engine: Engine) -> Iterator[Connection]:
    """Somebody with all rights at the database, who leaves no trace of switched off triggers."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE event DISABLE TRIGGER ALL"))
            yield connection
            connection.execute(text("ALTER TABLE event ENABLE TRIGGER ALL"))
            return
        triggers = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        ).all()
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield connection
        for _, sql in triggers:
            connection.exec_driver_sql(sql)


def test_many_writers_and_sealers_make_one_chain(engine: Engine) -> None:
    stop = threading.Event()

    def seal() -> None:
        while not stop.is_set():
            seal_events(engine, limit=7)

    with ThreadPoolExecutor(6) as threads:
        sealers = [threads.submit(seal) for _ in range(2)]
        for writer in [threads.submit(write, engine, 15, 100 * one) for one in range(4)]:
            writer.result()
        stop.set()
        for sealer in sealers:
            sealer.result()
    head = seal_all(engine)
    verification = verify_log(engine)
    assert verification.is_whole
    assert (verification.rows, verification.unsealed, verification.head) == (60, 0, head)
    assert head.number == 60


@pytest.mark.peer
def test_event_that_commits_late_is_sealed_after_those_that_came_before_it(
    postgres_engine: Engine,
) -> None:
    with Session(postgres_engine) as slow:
        record(slow, actor="slow", action="a.b", subject="s", detail={}, now=1.0)
        slow.flush()
        write(postgres_engine, 2)
        assert seal_all(postgres_engine).number == 2
        slow.commit()
    assert seal_all(postgres_engine).number == 3
    with reading(postgres_engine) as session:
        assert session.scalar(select(Event.actor).where(Event.number == 3)) == "slow"
    assert verify_log(postgres_engine).is_whole


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET actor = 'somebody' WHERE number = 3",
        "UPDATE event SET at = 5 WHERE number IS NULL",
        "UPDATE event SET number = NULL, digest = NULL WHERE number = 3",
        "DELETE FROM event WHERE number = 3",
        "DELETE FROM event WHERE number IS NULL",
        "INSERT INTO event (id, at, actor, action, subject, detail, number, digest) "
        "VALUES (99, 1, 'a', 'a', 'a', '{}', 99, 'a')",
        "TRUNCATE event",
        "INSERT OR REPLACE INTO event (id, at, actor, action, subject, detail) "
        "VALUES (3, 1, 'a', 'a', 'a', '{}')",
        "UPDATE OR REPLACE event SET number = 3, digest = 'a' WHERE number IS NULL",
    ],
)
def test_database_itself_refuses_changes(engine: Engine, statement: str) -> None:
    only = {"TRUNCATE": "postgresql", "INSERT OR": "sqlite", "UPDATE OR": "sqlite"}
    if any(statement.startswith(w) and engine.dialect.name != d for w, d in only.items()):
        pytest.skip("not a statement of this database")
    write(engine, 5)
    seal_all(engine)
    write(engine, 1, start=5)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    seal_all(engine)
    assert verify_log(engine).rows == 6


TRICKS: dict[str, tuple[list[str], str, int]] = {
    "one letter": (["UPDATE event SET actor = 'writer-6' WHERE number = 6"], "EVENT_CHANGED", 6),
    "time": (["UPDATE event SET at = at + 0.000001 WHERE number = 6"], "EVENT_CHANGED", 6),
    "a space in the detail": (
        ["UPDATE event SET detail = '{ ' || substr(CAST(detail AS text), 2) WHERE number = 6"],
        "EVENT_CHANGED",
        6,
    ),
    "digest": ([f"UPDATE event SET digest = '{'0' * 64}' WHERE number = 6"], "EVENT_CHANGED", 6),
    "deleted": (["DELETE FROM event WHERE number = 6"], "EVENT_MISSING", 6),
    "deleted and closed up": (
        [
            "DELETE FROM event WHERE number = 6",
            "UPDATE event SET number = -number WHERE number > 6",
            "UPDATE event SET number = -number - 1 WHERE number < 0",
        ],
        "EVENT_CHANGED",
        6,
    ),
    "deleted at the start": (["DELETE FROM event WHERE number < 6"], "EVENT_MISSING", 1),
    "put in": (
        [
            "UPDATE event SET number = -number WHERE number > 5",
            "UPDATE event SET number = -number + 1 WHERE number < 0",
            "INSERT INTO event (id, at, actor, action, subject, detail, number, digest) SELECT "
            "99, at, actor, action, subject, detail, 6, digest FROM event WHERE number = 5",
        ],
        "EVENT_CHANGED",
        6,
    ),
    "exchanged": (
        [
            "UPDATE event SET number = -7 WHERE number = 6",
            "UPDATE event SET number = 6 WHERE number = 7",
            "UPDATE event SET number = 7 WHERE number = -7",
        ],
        "EVENT_CHANGED",
        6,
    ),
    "taken out of the chain": (
        ["UPDATE event SET number = NULL, digest = NULL WHERE number = 6"],
        "EVENT_MISSING",
        6,
    ),
    "end cut off": (["DELETE FROM event WHERE number >= 6"], "LOG_TRUNCATED", 6),
    "everything": (["DELETE FROM event"], "LOG_TRUNCATED", 1),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_first_broken_event_is_named(engine: Engine, trick: str) -> None:
    write(engine, 10)
    noted = seal_all(engine)
    assert verify_log(engine, [noted]).is_whole
    statements, code, number = TRICKS[trick]
    if engine.dialect.name == "postgresql":
        statements = [one.replace("'{ ' || ", "('{ ' || ") for one in statements]
        statements = [one.replace(", 2) WHERE", ", 2))::json WHERE") for one in statements]
    with unguarded(engine) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    broken = verify_log(engine, [noted]).broken
    assert broken is not None
    assert (broken.code, broken.number) == (code, number)


def test_changed_byte_of_the_file_is_found(sqlite_url: str, sqlite_engine: Engine) -> None:
    write(sqlite_engine, 10)
    seal_all(sqlite_engine)
    with sqlite_engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    sqlite_engine.dispose()
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    data = bytearray(file.read_bytes())
    place = data.index(b"writer-5")
    for byte in (data[place] ^ 1, 0xFF):  # another letter, and what is no text at all
        data[place] = byte
        file.write_bytes(data)
        broken = verify_log(sqlite_engine).broken
        sqlite_engine.dispose()
        assert broken is not None
        assert (broken.code, broken.number, broken.event_id) == ("EVENT_CHANGED", 6, 6)


def test_chain_that_was_computed_anew_differs_from_what_was_noted(engine: Engine) -> None:
    write(engine, 10)
    noted = seal_all(engine)
    with unguarded(engine) as connection, Session(connection) as session:
        connection.exec_driver_sql("UPDATE event SET subject = '1.9' WHERE number = 3")
        head = Head(0, "0" * 64)
        query = select(*raw_columns(engine.dialect.name)).order_by(Event.number)
        for row in session.execute(query).all():
            head = Head(head.number + 1, digest_of(head.number + 1, head.digest, row))
            connection.exec_driver_sql(
                f"UPDATE event SET digest = '{head.digest}' WHERE id = {row.id}"
            )
    assert verify_log(engine).is_whole, "the chain alone can't know"
    broken = verify_log(engine, [noted]).broken
    assert broken is not None
    assert broken.code == "LOG_REWRITTEN"


def test_guard_that_is_off_is_noticed(engine: Engine) -> None:
    write(engine, 1)
    seal_all(engine)
    with engine.begin() as connection:
        table = " ON event" if engine.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER event_never_goes{table}")
    broken = verify_log(engine).broken
    assert broken is not None
    assert broken.code == "GUARD_MISSING"
    assert "event_never_goes" in broken.message


def test_old_events_go_into_a_file_and_the_chain_goes_on(engine: Engine, tmp_path: Path) -> None:
    write(engine, 10)
    noted = seal_all(engine)

    def archive(before: float) -> object:
        return archive_events(engine, tmp_path, before=before, actor="test", now=5000.0)

    with transaction(engine) as session:
        session.add(AuditForwarding(collector="c", sent_number=2, holder="", held_until=0.0))
    first = archive(1004.0)
    with transaction(engine) as session:
        session.get_one(AuditForwarding, "c").sent_number = 10
    second = archive(1007.0)
    assert archive(1007.0) is None
    assert [(one.first_number, one.last_number) for one in (first, second)] == [(1, 2), (3, 7)]  # type: ignore[attr-defined]  # archives
    seal_all(engine)
    write(engine, 1, start=20)
    head = seal_all(engine)
    verification = verify_log(engine, [noted])
    assert verification.is_whole
    assert (verification.first, verification.head, verification.rows) == (8, head, 6)
    files = sorted(tmp_path.glob("*.gz"))
    assert [verify_archive(engine, file).last_number for file in files] == [2, 7]

    lines = gzip.decompress(files[1].read_bytes()).replace(b"writer-4", b"writer-9")
    files[1].write_bytes(gzip.compress(lines))
    with pytest.raises(ArchiveError, match=r"event 5 isn't what was archived"):
        verify_archive(engine, files[1])
    with unguarded(engine) as connection:
        connection.exec_driver_sql("UPDATE event SET actor = 'x' WHERE number = 9")
    with pytest.raises(ArchiveError, match="broken at event 9"):
        archive(9000.0)
    assert verify_log(engine).first == 8, "nothing went"
