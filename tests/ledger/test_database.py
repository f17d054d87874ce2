from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, select, text

import ledger.web_tables  # noqa: F401 - declares its tables
from ledger.database import migrate, open_database, reading, transaction
from ledger.errors import LedgerError
from ledger.tables import Base, Event, Study

_PHI = "Nobody^Knows"


def study(**attributes: str) -> Study:
    values = {
        "study_instance_uid": "1.2.3",
        "patient_id": "1",
        "patient_name": _PHI,
        "patient_birth_date": "",
        "patient_sex": "",
        "accession_number": "",
        "study_date": "",
        "study_time": "",
        "study_description": "",
        **attributes,
    }
    return Study(**values, first_received_at=1.0, last_received_at=1.0)


@pytest.fixture
def empty(database_url: str) -> Engine:
    return open_database(database_url)


def test_migration_makes_every_table(empty: Engine) -> None:
    migrate(empty)
    assert set(inspect(empty).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    empty.dispose()


def test_migration_and_tables_do_not_differ(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_keeps_what_is_there(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(study())
    migrate(engine)
    with reading(engine) as session:
        assert session.scalars(select(Study.study_instance_uid)).all() == ["1.2.3"]


def test_newer_schema_is_refused_and_left_alone(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"newer Pacsight .*9999.*upgrade"):
        migrate(engine)
    with reading(engine) as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def _migrate_in_process(url: str, start: Barrier, answers: multiprocessing.Queue[str]) -> None:
    start.wait()
    try:
        engine = open_database(url)
        migrate(engine)
        engine.dispose()
        answers.put("done")
    except LedgerError as error:
        answers.put(str(error))


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_migrate_in_process, args=(database_url, start, answers))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == ["done"] * 3
    for process in processes:
        process.join()


def test_new_database_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    """Each switches to WAL; SQLite refuses all but one at once, without its busy timeout."""

    def connect(url: str, start: threading.Barrier) -> None:
        engine = open_database(url)
        start.wait()
        with engine.connect():
            pass
        engine.dispose()

    with ThreadPoolExecutor(4) as threads:
        for attempt in range(40):  # without the retry about every fifth fails
            start, url = threading.Barrier(4), f"sqlite:///{tmp_path / str(attempt)}"
            for connected in [threads.submit(connect, url, start) for _ in range(4)]:
                connected.result()


def test_locked_sqlite_is_an_error_within_the_timeout(
    sqlite_url: str, sqlite_engine: Engine
) -> None:
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    engine = open_database(sqlite_url, busy_timeout_s=0.3)
    started = time.monotonic()
    with pytest.raises(LedgerError, match="locked"), transaction(engine) as session:
        session.add(study())
    assert 0.2 < time.monotonic() - started < 5.0
    with reading(engine) as session:  # readers neither wait nor fail
        assert session.scalars(select(Study)).all() == []
    blocker.execute("ROLLBACK")
    with transaction(engine) as session:
        session.add(study())
    blocker.close()
    engine.dispose()


def test_locked_sqlite_cannot_be_migrated_and_says_so(sqlite_url: str) -> None:
    engine = open_database(sqlite_url, busy_timeout_s=0.2)
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    engine.connect().close()  # into WAL first
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        migrate(engine)
    blocker.close()
    engine.dispose()


def test_sqlite_commits_are_durable_and_keys_are_checked(sqlite_engine: Engine) -> None:
    with sqlite_engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}  # 2: FULL


def test_unreachable_server_is_a_ledger_error(free_port: object) -> None:
    assert callable(free_port)
    engine = open_database(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    with pytest.raises(LedgerError, match="can't be opened"):
        migrate(engine)
    with pytest.raises(LedgerError, match="can't be used"), transaction(engine) as session:
        session.add(study())
    engine.dispose()


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "sqlite:///"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(LedgerError, match="database_url"):
        open_database(url)


def test_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="data folder"):
        open_database(f"sqlite:///{tmp_path}/file/ledger.sqlite")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"this is a text file, not a database\n" * 100)
    engine = open_database(f"sqlite:///{tmp_path}/ledger.sqlite")
    with pytest.raises(LedgerError, match="not a database"):
        migrate(engine)
    engine.dispose()


def test_error_names_no_patient(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("ALTER TABLE study RENAME COLUMN study_time TO gone"))
    with pytest.raises(Exception, match="study_time") as caught, transaction(engine) as session:  # noqa: PT012
        session.add(study())
        session.flush()
    if isinstance(caught.value, LedgerError):
        assert _PHI not in str(caught.value)


def test_failed_transaction_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="stop"), transaction(engine) as session:  # noqa: PT012
        session.add(study())
        session.flush()
        raise RuntimeError("stop")
    with reading(engine) as session:
        assert session.scalars(select(Study)).all() == []


@pytest.mark.parametrize(
    "name",
    [
        "王^小東=王^小东",
        "やまだ^たろう",
        "Διονυσιος",
        "𠮷田^\U0001f600",
        "a'; DROP TABLE study; --",
    ],
)
def test_text_comes_back_as_it_was(engine: Engine, name: str) -> None:
    with transaction(engine) as session:
        session.add(study(patient_name=name))
        session.add(Event(at=1.0, actor="x", action="y", subject="z", detail={"name": name}))
    with reading(engine) as session:
        assert session.scalar(select(Study.patient_name)) == name
        assert session.scalar(select(Event.detail)) == {"name": name}


def test_newest_schema_is_the_one_that_the_code_names(sqlite_engine: Engine) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from ledger import database

    config = Config()
    folder = Path(database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == database.SCHEMA


@pytest.mark.parametrize("url", ["postgres//host/name", "mysql://host/name", "sqlite://", ""])
def test_url_of_no_database_is_one_sentence(url: str) -> None:
    with pytest.raises(LedgerError, match="must start with sqlite"):
        open_database(url)
