"""Segments and packs whose bytes nobody needs: removed whole, or after moving out what is kept.

A file goes when no row needs any byte of it: its studies were given up, its objects were
duplicates, or it was copied into the object store. Where the ledger still needs less than half of
an old file, that is copied into a new one first, and the old one goes with a later run.

What a living writer holds is locked (`scp.spool`); what is about to be committed is young, or its
rows still say ``received``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.domain import ObjectState
from ledger.store import FolderStore, Store, Stored
from ledger.tables import KEPT, ReceivedObject
from scp.segments import spool_identity
from scp.spool import LOCKED, PACKS, SEGMENT_NAME

logger = logging.getLogger(__name__)

GRACE_S = 600.0
"""A file that changed so recently is left alone."""
UNLOCKED_GRACE_S = 30 * 86400.0
"""The same of segments of an earlier version, which did not lock them."""
COMPACT_AFTER_S = 86400.0
COMPACT_BYTES = 1 << 28
"""More than this is not copied: it is held in memory."""
BATCH = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """What a run has removed, and what it found that nobody needs."""

    files: int = 0
    freed_bytes: int = 0
    stray_files: int = 0
    stray_bytes: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.files + other.files,
            self.freed_bytes + other.freed_bytes,
            self.stray_files + other.stray_files,
            self.stray_bytes + other.stray_bytes,
        )


def sweep(
    engine: Engine, spool_dir: Path, store: Store | None, *, now: float, is_dry: bool = False
) -> Swept:
    """Remove what nobody needs from this machine's spool and, if there is one, the object store.

    Parameters
    ----------
    store
        Where packs lie.
    now
        Seconds since 1970 UTC, as file systems and the store tell it.
    is_dry
        Only count.

    Raises
    ------
    ledger.errors.LedgerError, ledger.errors.StoreError, scp.errors.SpoolError
        Not everything was looked at; run it again.
    """
    spool = _Spool(engine, spool_dir, now)
    swept = spool.sweep(is_dry)
    if store is not None:
        swept += _Packs(engine, spool_dir, store, now).sweep(is_dry)
    return swept


class _Files:
    """Files of received objects, in the spool or in the store."""

    def __init__(self, engine: Engine, store: Store, now: float) -> None:
        self._engine = engine
        self._store = store
        self._now = now

    def sweep(self, is_dry: bool) -> Swept:
        swept = Swept()
        for group in _batches(self._old()):
            needed = self._needed([one.key for one in group])
            for one in group:
                live = needed.get(one.key, 0)
                if live == 0:
                    swept += self._remove(one, is_dry)
                elif not is_dry and live < one.size / 2 and live <= COMPACT_BYTES:
                    self._compact(one)
        return swept

    def _needed(self, keys: Sequence[str]) -> dict[str, int]:
        """Return how many bytes of each file rows need."""
        kept = (
            select(ReceivedObject.segment, func.sum(ReceivedObject.size))
            .where(KEPT, ReceivedObject.segment.in_(keys))
            .group_by(ReceivedObject.segment)
        )
        with reading(self._engine) as session:
            return {segment: int(size) for segment, size in session.execute(kept)}

    def _remove(self, one: Stored, is_dry: bool) -> Swept:
        with self._mine(one) as is_mine:
            if not is_mine:
                return Swept()
            if is_dry:
                return Swept(stray_files=1, stray_bytes=one.size)
            self._store.delete([one.key])
        logger.info("%s removed: nobody needs it", one.key)
        return Swept(1, one.size, 1, one.size)

    def _compact(self, one: Stored) -> None:
        """Copy what is needed into a new file, and let the rows name that."""
        if one.changed_at > self._now - COMPACT_AFTER_S:
            return
        with self._mine(one) as is_mine:
            if not is_mine:
                return
            with reading(self._engine) as session:
                rows = session.execute(
                    select(ReceivedObject.id, ReceivedObject.offset, ReceivedObject.size)
                    .where(KEPT, ReceivedObject.segment == one.key)
                    .order_by(ReceivedObject.offset)
                ).all()
            copied, places = bytearray(), []
            for object_id, offset, size in rows:
                places.append((object_id, len(copied)))
                copied += self._store.get(one.key, offset, size)
            if not copied:
                return
            key = self._new_key(rows[0][0])
            self._store.put(key, copied)
            with transaction(self._engine) as session:
                self._move(session, one.key, key, places)
            self._touch(one)
        logger.info("%s: %d objects moved out of it", one.key, len(places))

    def _move(
        self, session: Session, old: str, new: str, places: Sequence[tuple[int, int]]
    ) -> None:
        for object_id, offset in places:
            session.execute(
                update(ReceivedObject)
                .where(ReceivedObject.id == object_id, ReceivedObject.segment == old)
                .values(segment=new, offset=offset)
                .execution_options(synchronize_session=False)
            )

    def _old(self) -> Iterator[Stored]:
        raise NotImplementedError

    def _new_key(self, first: int) -> str:
        raise NotImplementedError

    def _touch(self, one: Stored) -> None:
        """Let those that are about to read the old place find it for a while."""

    def _mine(self, one: Stored) -> AbstractContextManager[bool]:
        """Tell whether nobody can be about to need the file, and keep it so."""
        raise NotImplementedError


class _Spool(_Files):
    """Segments of the spool on this machine."""

    def __init__(self, engine: Engine, folder: Path, now: float) -> None:
        super().__init__(engine, FolderStore(folder), now)
        self._folder = folder
        with reading(engine) as session:  # few: those whose headers are read next
            unread = select(ReceivedObject.segment).where(
                ReceivedObject.state == ObjectState.RECEIVED
            )
            self._unread = set(session.scalars(unread.distinct()))

    def _old(self) -> Iterator[Stored]:
        for one in self._store.list(""):
            grace = GRACE_S if one.key.endswith(LOCKED) else UNLOCKED_GRACE_S
            is_old = one.changed_at < self._now - grace
            if SEGMENT_NAME.fullmatch(one.key) and is_old and one.key not in self._unread:
                yield one

    def _new_key(self, first: int) -> str:
        identity = spool_identity(self._folder)
        return f"{identity}-{time.time_ns():x}-{os.getpid():x}-{first:x}{LOCKED}"

    def _touch(self, one: Stored) -> None:
        os.utime(self._folder / one.key)

    @contextmanager
    def _mine(self, one: Stored) -> Iterator[bool]:
        try:
            descriptor = os.open(self._folder / one.key, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            is_mine = False
        else:
            is_mine = os.fstat(descriptor).st_size == one.size
        try:
            yield is_mine
        finally:
            os.close(descriptor)


class _Packs(_Files):
    """What is in the object store. Only its own are freed of the rest by a machine."""

    def __init__(self, engine: Engine, folder: Path, store: Store, now: float) -> None:
        super().__init__(engine, store, now)
        self._own = f"{PACKS}{spool_identity(folder)}/"

    def _old(self) -> Iterator[Stored]:
        for one in self._store.list(PACKS):
            if one.changed_at < self._now - GRACE_S:
                yield one

    def _new_key(self, first: int) -> str:
        return f"{self._own}kept-{time.time_ns():x}-{first}"

    def _compact(self, one: Stored) -> None:
        if one.key.startswith(self._own):
            super()._compact(one)

    @contextmanager
    def _mine(self, one: Stored) -> Iterator[bool]:
        """A pack whose rows are not written yet: they still say ``received``."""
        first, _, last = one.key.rsplit("/", 1)[-1].partition("-")
        if not (first.isdecimal() and last.isdecimal()):
            yield True
            return
        with reading(self._engine) as session:
            unread = select(ReceivedObject.id).where(
                ReceivedObject.id.between(int(first), int(last)),
                ReceivedObject.state == ObjectState.RECEIVED,
            )
            yield session.scalar(unread.limit(1)) is None


def _batches(items: Iterable[Stored]) -> Iterator[list[Stored]]:
    batch: list[Stored] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
