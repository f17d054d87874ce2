"""Objects that come by another way than an association, received as durably.

The same spool, the same rows: what follows can't tell the difference, but for the outcome
``uploaded``, which says that the sender has handed in everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from ledger.database import transaction
from ledger.domain import ObjectState
from ledger.tables import Association
from scp.completeness import UPLOADED
from scp.config import ListenerConfig
from scp.errors import NotBrokenOffError
from scp.group_commit import GroupCommit, close_lost_associations
from scp.ledger_writer import AssociationRecord
from scp.part10 import encode_file_meta
from scp.reception import make_buffer
from scp.spool import Spool


@dataclass(frozen=True, slots=True)
class LocalObject:
    """A data set in an open file: where it starts, and what a C-STORE would have said of it."""

    file: BinaryIO
    start: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class LocalIntake:
    """Writes into the spool and the ledger as a listener does. A context manager; thread-safe.

    Parameters
    ----------
    name
        Of this process in the ledger; no two living ones share it, listeners included.
    """

    def __init__(self, config: ListenerConfig, spool_dir: Path, engine: Engine, name: str) -> None:
        self._config = config
        self._engine = engine
        self._name = name
        self._spool = Spool(
            spool_dir,
            segment_bytes=config.segment_bytes,
            reserve_bytes=config.disk_reserve_bytes,
        )
        self._commits = GroupCommit(engine, timeout_s=config.commit_timeout_s)

    def start(self) -> None:
        """Close what a dead process of this name left open."""
        close_lost_associations(self._engine, self._name)
        self._commits.start()

    def stop(self) -> None:
        """Write what is left and close the files."""
        self._commits.stop()
        self._spool.close()

    def check_space(self) -> None:
        """Raise :class:`scp.errors.SpoolFullError` when less than the reserve is free."""
        self._spool.check_reserve()

    @contextmanager
    def association(
        self,
        calling_ae_title: str,
        address: str,
        *,
        broken_off: int | None = None,
        outcome: str = UPLOADED,
    ) -> Iterator[AssociationRecord]:
        """Open an association in the ledger; at the end it is closed as `outcome`, or as aborted.

        Parameters
        ----------
        broken_off
            Id of one that was aborted or lost, to go on with it instead.
        outcome
            ``uploaded`` says that everything was handed in, ``released`` only that the sender was
            done for now.

        Raises
        ------
        NotBrokenOffError
            That one is still open, or was closed as uploaded.
        """
        record = AssociationRecord(
            listener=self._name,
            calling_ae_title=calling_ae_title,
            called_ae_title=self._config.ae_title,
            peer_address=address[:64],
            opened_at=time.time(),
        )
        with transaction(self._engine) as session:
            if broken_off is None:
                record.id = _opened(session, record)
            else:
                record.id = _opened_again(session, broken_off, self._name)
        end = "aborted"
        try:
            yield record
            end = outcome
        finally:
            self._commits.end_association(record, end)

    def store(self, record: AssociationRecord, item: LocalObject) -> None:
        """Return when the object is synced and its row committed.

        Raises
        ------
        ReceiveError
            It is not durable; the caller must not say that it was taken.
        OSError
            The file can't be read.
        """
        header = encode_file_meta(
            item.sop_class_uid,
            item.sop_instance_uid,
            item.transfer_syntax_uid,
            record.calling_ae_title,
        )
        writer = self._spool.begin(header, make_buffer())
        try:
            item.file.seek(item.start)
            while count := item.file.readinto(writer.room(1 << 20)):  # type: ignore[attr-defined]  # every buffered file has it
                writer.advance(count)
            spooled = writer.seal()
        finally:
            writer.discard()  # does nothing after seal
        self._commits.store(
            record,
            {
                "sop_class_uid": item.sop_class_uid,
                "sop_instance_uid": item.sop_instance_uid,
                "transfer_syntax_uid": item.transfer_syntax_uid,
                "segment": spooled.segment,
                "offset": spooled.offset,
                "size": spooled.size,
                "received_at": time.time(),
                "priority": None,
                "state": ObjectState.RECEIVED.value,
            },
        )


def _opened(session: Session, record: AssociationRecord) -> int:
    row = Association(
        listener=record.listener,
        calling_ae_title=record.calling_ae_title,
        called_ae_title=record.called_ae_title,
        peer_address=record.peer_address,
        opened_at=record.opened_at,
    )
    session.add(row)
    session.flush()
    return row.id


def _opened_again(session: Session, key: int, listener: str) -> int:
    found = session.scalar(
        update(Association)
        .where(
            Association.id == key,
            Association.closed_at.is_not(None),
            Association.outcome != UPLOADED,
        )
        .values(listener=listener, outcome=None, closed_at=None)
        .returning(Association.id)
    )
    if found is None:
        raise NotBrokenOffError("This upload is being stored; ask again in a moment.")
    return found
