"""Opening and migrating the one database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    create_engine,
    event,
    inspect,
    literal_column,
    make_url,
    text,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from ledger.errors import LedgerError

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_S = 30.0
WAL_RETRY_S = 0.02
# A server behind a dead network must not hold up senders: libpq's own limits, in s and ms.
POSTGRES_PATIENCE = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10}
SCHEMA = "0013"  # the newest of ledger/migrations/versions
_NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
}
MIGRATION_LOCK = 0x50414353  # one advisory lock number for this schema; "PACS"


def open_database(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine for `url`; SQLite is put into WAL with full sync, foreign keys on.

    ``synchronous=FULL`` because in WAL mode NORMAL does not sync at COMMIT, and a COMMIT stands
    behind every C-STORE Success.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://…``.
    busy_timeout_s
        How long a SQLite writer waits for another before ``database is locked``, in seconds.

    Raises
    ------
    LedgerError
        The folder can't be made, or the URL names no database we support.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except SQLAlchemyError:
        backend = ""
    if backend == "postgresql":
        return create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args=POSTGRES_PATIENCE,
        )
    if backend != "sqlite" or not parsed.database:
        raise LedgerError(
            "The database URL must start with sqlite:/// or postgresql://; correct database_url."
        )
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"The data folder can't be made: {error.strerror}.") from error
    engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})

    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        _configure_sqlite(connection, busy_timeout_s)

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event below opens transactions
    _enter_wal(connection, time.monotonic() + busy_timeout_s)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _enter_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch to WAL; of processes that start at once, SQLite lets one do so and refuses the others.

    It doesn't call the busy handler there (https://sqlite.org/c3ref/busy_handler.html), so the
    waiting is ours.
    """
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_S)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a reader that later writes would get "database is locked" without waiting.
    writes = connection.get_execution_options().get("read_only") is not True
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: Engine) -> None:
    """Bring the database to the newest schema; safe when several processes start at once.

    Raises
    ------
    LedgerError
        The database is unreachable, locked, or newer than this software.
    """
    try:
        if _schema_of(engine) == SCHEMA:
            return  # without Alembic, which costs half a second and 11 MB
        _upgrade(engine)
    except SQLAlchemyError as error:
        raise LedgerError(f"The ledger can't be opened: {describe(error)}.") from error


def _schema_of(engine: Engine) -> str | None:
    with engine.execution_options(read_only=True).connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.scalar(text("SELECT version_num FROM alembic_version"))


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:  # one transaction: on SQLite the write lock itself
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
        _refuse_newer(connection, config)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _refuse_newer(connection: Connection, config: Config) -> None:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise LedgerError(
            f"The ledger was written by a newer Pacsight (schema {current}); upgrade this one."
        )


def describe(error: SQLAlchemyError) -> str:
    """Return the driver's first line, without the SQL and its parameters (they may hold PHI)."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Open a session that commits at the end, or rolls back on an error.

    Raises
    ------
    LedgerError
        The database is unreachable or stayed locked.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except OperationalError as error:
        raise LedgerError(f"The ledger can't be used: {describe(error)}.") from error


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Open a session that only reads: on SQLite it neither takes nor waits for the write lock."""
    try:
        with Session(engine.execution_options(read_only=True), expire_on_commit=False) as session:
            yield session
    except OperationalError as error:
        raise LedgerError(f"The ledger can't be read: {describe(error)}.") from error


def clock_of(session: Session) -> ColumnElement[float]:
    """Return the SQL for the database's own time, in seconds since 1970 UTC."""
    return literal_column(_NOW[session.get_bind().dialect.name], Float)
