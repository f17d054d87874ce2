"""The ledger side: groups, locks, broken connections, ends of associations."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from ledger.database import reading, transaction
from ledger.tables import Association, ReceivedObject
from scp.errors import CommitError
from scp.group_commit import GroupCommit
from scp.ledger_writer import AssociationRecord, ObjectRow
from tests.peers.process import wait_until


@contextmanager
def committing(engine: Engine, timeout_s: float = 5.0) -> Iterator[GroupCommit]:
    commits = GroupCommit(engine, timeout_s=timeout_s)
    commits.start()
    try:
        yield commits
    finally:
        commits.stop()


def record() -> AssociationRecord:
    return AssociationRecord("test", "SENDER", "PACSIGHT", "127.0.0.1", time.time())


def row(uid: str) -> ObjectRow:
    return {
        "sop_class_uid": "1.2.3",
        "sop_instance_uid": uid,
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "segment": "0-0-0.seg",
        "offset": 7,
        "size": 1 << 40,
        "received_at": 1.5,
        "priority": 0,
        "state": "received",
    }


def rows(engine: Engine, table: Any = ReceivedObject) -> list[Any]:
    with reading(engine) as session:
        return list(session.scalars(select(table).order_by(table.id)))


def store_at_once(commits: GroupCommit, count: int) -> list[CommitError | None]:
    """Store from `count` threads; return what each got."""
    results: list[CommitError | None] = [None] * count

    def store(number: int) -> None:
        try:
            commits.store(record(), row(f"1.2.{number}"))
        except CommitError as error:
            results[number] = error

    threads = [threading.Thread(target=store, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_row_and_association_are_written(engine: Engine) -> None:
    sender = record()
    with committing(engine) as commits:
        commits.store(sender, row("1.2.1"))
        commits.store(sender, row("1.2.2"))
    first, second = rows(engine)
    assert (first.sop_instance_uid, first.offset, first.size) == ("1.2.1", 7, 1 << 40)
    assert first.association_id == second.association_id == sender.id
    assert first.state == "received"
    (association,) = rows(engine, Association)
    assert (association.listener, association.outcome) == ("test", None)


def test_many_threads_all_get_their_rows(engine: Engine) -> None:
    with committing(engine) as commits:
        assert store_at_once(commits, 40) == [None] * 40
    assert {r.sop_instance_uid for r in rows(engine)} == {f"1.2.{n}" for n in range(40)}
    assert len(rows(engine, Association)) == 40


def test_those_who_wait_share_one_commit(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with committing(engine) as commits:
        sizes = []
        insert = commits._writer.insert

        def slow(objects: Any) -> None:
            if not sizes:
                wait_until(lambda: len(commits._queue) == 9, "the others")
            sizes.append(len(objects))
            insert(objects)

        monkeypatch.setattr(commits._writer, "insert", slow)
        assert store_at_once(commits, 10) == [None] * 10
    assert sizes == [1, 9]


def test_commit_error_fails_everybody_of_the_group(sqlite_engine: Engine) -> None:
    with transaction(sqlite_engine) as session:
        session.execute(
            text(
                "CREATE TRIGGER broken BEFORE INSERT ON received_object WHEN new.segment = 'bad' "
                "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
            )
        )
    with committing(sqlite_engine) as commits:
        bad = {**row("1.2.3"), "segment": "bad"}
        results: list[str] = []
        commits._lock.acquire()  # so that both wait for the same leader

        def store(values: Any) -> None:
            try:
                commits.store(record(), values)
            except CommitError as error:
                results.append(f"{error.status:04X}")

        threads = [threading.Thread(target=store, args=(v,)) for v in (row("1.2.1"), bad)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(commits._queue) == 2, "both")
        commits._lock.release()
        for thread in threads:
            thread.join()
        assert results == ["A700", "A700"]
        assert rows(sqlite_engine) == []
        commits.store(record(), row("1.2.4"))
    assert [r.sop_instance_uid for r in rows(sqlite_engine)] == ["1.2.4"]
    assert len(rows(sqlite_engine, Association)) == 1


@contextmanager
def locked(engine: Engine) -> Iterator[None]:
    """Another process writes and does not come to an end."""
    assert engine.url.database is not None
    other = sqlite3.connect(Path(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_nobody_is_acknowledged_when_the_commit_ends_in_a_way_nobody_thought_of(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with committing(engine) as commits:
        others_wait, insert = threading.Event(), commits._writer.insert

        def broken(objects: Any) -> None:
            others_wait.wait(5)
            raise MemoryError

        monkeypatch.setattr(commits._writer, "insert", broken)
        raised: list[BaseException] = []

        def store(uid: str) -> None:
            try:
                commits.store(record(), row(uid))
            except (CommitError, MemoryError) as error:
                raised.append(error)

        threads = [threading.Thread(target=store, args=(f"1.{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(commits._queue) == 3, "the others to queue up")
        others_wait.set()
        for thread in threads:
            thread.join()
        assert len(raised) == 4
        monkeypatch.setattr(commits._writer, "insert", insert)
        commits.store(record(), row("1.9"))
    assert [one.sop_instance_uid for one in rows(engine)] == ["1.9"]


def test_locked_ledger_fails_after_the_timeout_and_recovers(sqlite_engine: Engine) -> None:
    with committing(sqlite_engine, timeout_s=0.3) as commits:
        with locked(sqlite_engine):
            start = time.monotonic()
            with pytest.raises(CommitError):
                commits.store(record(), row("1.2.1"))
            assert 0.25 < time.monotonic() - start < 2
        commits.store(record(), row("1.2.2"))
    assert [r.sop_instance_uid for r in rows(sqlite_engine)] == ["1.2.2"]


def test_short_lock_is_waited_for(sqlite_engine: Engine) -> None:
    with committing(sqlite_engine) as commits, locked(sqlite_engine):
        thread = threading.Thread(target=commits.store, args=(record(), row("1.2.1")))
        thread.start()
        time.sleep(0.1)
        assert rows(sqlite_engine) == []
    thread.join()
    assert len(rows(sqlite_engine)) == 1


def test_end_of_association_waits_for_a_locked_ledger(sqlite_engine: Engine) -> None:
    sender = record()
    with committing(sqlite_engine, timeout_s=0.1) as commits:
        commits.store(sender, row("1.2.1"))
        with locked(sqlite_engine):
            start = time.monotonic()
            commits.end_association(sender, "released")
            assert time.monotonic() - start < 0.1
            time.sleep(0.3)
        wait_until(lambda: rows(sqlite_engine, Association)[0].outcome, "the end")
    (association,) = rows(sqlite_engine, Association)
    assert association.outcome == "released"
    assert association.closed_at < time.time()


def test_stop_does_not_wait_for_a_locked_ledger_for_ever(sqlite_engine: Engine) -> None:
    sender = record()
    with locked_after_store(sqlite_engine, sender):
        pass
    assert rows(sqlite_engine, Association)[0].outcome is None


@contextmanager
def locked_after_store(engine: Engine, sender: AssociationRecord) -> Iterator[None]:
    commits = GroupCommit(engine, timeout_s=0.1)
    commits.start()
    commits.store(sender, row("1.2.1"))
    with locked(engine):
        commits.end_association(sender, "released")
        start = time.monotonic()
        commits.stop()
        assert time.monotonic() - start < 2
        yield


def test_end_without_objects_writes_nothing(engine: Engine) -> None:
    with committing(engine) as commits:
        commits.end_association(record(), "released")
    assert rows(engine, Association) == []


@pytest.mark.peer
def test_server_that_closed_the_connection_is_reconnected(postgres_engine: Engine) -> None:
    with committing(postgres_engine) as commits:
        commits.store(record(), row("1.2.1"))
        with postgres_engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        commits.store(record(), row("1.2.2"))
    assert [r.sop_instance_uid for r in rows(postgres_engine)] == ["1.2.1", "1.2.2"]


@pytest.mark.peer
def test_locked_table_of_postgresql_fails_after_the_timeout(postgres_engine: Engine) -> None:
    with committing(postgres_engine, timeout_s=0.3) as commits:
        with postgres_engine.begin() as connection:
            connection.execute(text("LOCK TABLE received_object IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(CommitError):
                commits.store(record(), row("1.2.1"))
        commits.store(record(), row("1.2.2"))
    assert [r.sop_instance_uid for r in rows(postgres_engine)] == ["1.2.2"]


def test_unreachable_ledger_is_a_commit_error(sqlite_engine: Engine) -> None:
    assert sqlite_engine.url.database is not None
    path = Path(sqlite_engine.url.database)
    sqlite_engine.dispose()
    moved = path.rename(path.with_suffix(".away"))
    path.mkdir()
    with committing(sqlite_engine) as commits:
        with pytest.raises(CommitError):
            commits.store(record(), row("1.2.1"))
        path.rmdir()
        moved.rename(path)
        commits.store(record(), row("1.2.2"))
    assert len(rows(sqlite_engine)) == 1
