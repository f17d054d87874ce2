"""The receiving process's own connection to the ledger: few statements, prepared once.

SQLAlchemy compiles the SQL from the tables and the driver itself executes it: through SQLAlchemy a
commit of one row costs 0.15 ms of CPU and not 0.04, a fifth of everything an object costs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import Engine, Executable, bindparam, insert, update
from sqlalchemy.exc import SQLAlchemyError

from ledger.database import describe
from ledger.errors import LedgerError
from ledger.tables import Association, ReceivedObject


class ObjectRow(TypedDict):
    """What :class:`ledger.tables.ReceivedObject` gets, but for the association."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    segment: str
    offset: int
    size: int
    received_at: float
    priority: int | None
    state: str


@dataclass(slots=True, eq=False)
class AssociationRecord:
    """An association as the ledger knows it; `id` is None until its first object is committed."""

    listener: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    opened_at: float
    id: int | None = None


@dataclass(frozen=True, slots=True)
class AssociationEnd:
    """How and when an association ended."""

    association_id: int
    outcome: str
    closed_at: float


class LedgerWriter:
    """One long-lived connection, opened again when it breaks. For one thread at a time.

    Parameters
    ----------
    timeout_s
        Longest wait for a lock, in seconds.
    """

    def __init__(self, engine: Engine, *, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_ms = int(timeout_s * 1000)
        self._connection: Any = None
        self._error: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._insert_association = self._compile(
            insert(Association).returning(Association.id),
            [f for f in AssociationRecord.__dataclass_fields__ if f != "id"],
        )
        self._insert_object = self._compile(
            insert(ReceivedObject), ["association_id", *ObjectRow.__annotations__]
        )
        self._close_association = self._compile(
            update(Association)
            .where(Association.id == bindparam("key"))
            .values(outcome=bindparam("end"), closed_at=bindparam("at")),
            [],
        )

    def insert(self, objects: Sequence[tuple[AssociationRecord, ObjectRow]]) -> None:
        """Commit received objects, and their associations where they are new.

        Raises
        ------
        LedgerError
            They are not committed, or nobody knows.
        """
        new: dict[AssociationRecord, int] = {}

        def work(cursor: Any) -> None:
            new.clear()
            for record, _ in objects:
                if record.id is None and record not in new:
                    cursor.execute(self._insert_association, _parameters(record))
                    new[record] = int(cursor.fetchone()[0])
            cursor.executemany(
                self._insert_object,
                [{**row, "association_id": record.id or new[record]} for record, row in objects],
            )

        self._transact(work)
        for record, key in new.items():
            record.id = key

    def close_associations(self, ends: Sequence[AssociationEnd]) -> None:
        """Commit how associations ended.

        Raises
        ------
        LedgerError
            They are not committed.
        """
        parameters = [
            {"key": end.association_id, "end": end.outcome, "at": end.closed_at} for end in ends
        ]
        self._transact(lambda cursor: cursor.executemany(self._close_association, parameters))

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._error):
                connection.close()

    def _transact(self, work: Callable[[Any], None]) -> None:
        is_reused = self._connection is not None
        try:
            self._begin(work)
        except self._error as error:
            is_gone = self._engine.dialect.is_disconnect(error, self._connection, None)  # type: ignore[arg-type]  # typeshed has no driver error types
            self.close()
            if not (is_reused and is_gone):
                raise LedgerError(_sentence(error)) from error
            self._transact(work)  # the server went away while nobody sent
            return
        except BaseException:  # out of memory, say: never leave a transaction open
            self.close()
            raise
        try:
            self._connection.commit()
        except self._error as error:  # may have happened all the same: never tried again here
            self.close()
            raise LedgerError(_sentence(error)) from error

    def _begin(self, work: Callable[[Any], None]) -> None:
        if self._connection is None:
            self._connection = self._connect()
        cursor = self._connection.cursor()
        try:
            if self._is_sqlite:  # the driver's own transactions are off, see ledger.database
                cursor.execute("BEGIN IMMEDIATE")
            work(cursor)
        finally:
            cursor.close()

    def _connect(self) -> Any:
        try:
            pooled = self._engine.raw_connection()
        except SQLAlchemyError as error:
            raise LedgerError(f"The ledger can't be reached: {describe(error)}.") from error
        connection = pooled.driver_connection
        assert connection is not None
        pooled.detach()  # the settings must not reach others through the pool
        if self._is_sqlite:
            connection.execute(f"PRAGMA busy_timeout={self._timeout_ms}")
        else:
            connection.execute(f"SET statement_timeout={self._timeout_ms}")
            connection.execute("SET synchronous_commit=on")  # Success means durable
            connection.commit()
        return connection

    def _compile(self, statement: Executable, columns: list[str]) -> str:
        """Return the driver's SQL, with parameters by name."""
        dialect: Any = self._engine.dialect
        if self._is_sqlite:
            dialect = type(dialect)(paramstyle="named")
        keys = {"column_keys": columns} if columns else {}
        return str(statement.compile(dialect=dialect, **keys))  # type: ignore[attr-defined]  # Executable of SQLAlchemy omits compile()


def _parameters(record: AssociationRecord) -> Mapping[str, Any]:
    return {
        "listener": record.listener,
        "calling_ae_title": record.calling_ae_title,
        "called_ae_title": record.called_ae_title,
        "peer_address": record.peer_address,
        "opened_at": record.opened_at,
    }


def _sentence(error: Exception) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"The ledger did not commit: {text}."
