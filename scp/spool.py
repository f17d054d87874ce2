"""The spool: append-only segments that hold received objects as Part 10 files, end to end.

An object is the slice ``(segment, offset, size)`` of its ``received_object`` row. Bytes that no row
names are worth nothing: an unfinished object, or one whose commit failed.

Segments and not one file per object, because creating a file costs more than syncing it. A segment
takes one object at a time and passes from association to association; a restart opens new ones. Its
name begins with the identity of its spool, so that each machine knows which objects lie here.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import logging
import os
import re
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ledger.store import Store
from scp.errors import SpoolError, SpoolFullError
from scp.segments import spool_identity

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOGGER = logging.getLogger(__name__)
BUFFER_BYTES = (1 << 18) + 1024  # two of the longest PDUs of dcmtk and a header
RESERVE_CHECK_BYTES = 1 << 23  # written of one object between two looks at the free space
SEGMENT_NAME = re.compile(r"[0-9a-f-]{1,120}\.seg")
LOCKED = "-1.seg"
"""Names of segments that are locked as long as they may grow, or a commit may name them, end so."""
RETIRED = 64
"""Full segments that stay open: their last objects may not be committed yet."""
PACKS = "packs/"
"""Keys of packs in the object store begin so; all other segments are files of a spool."""
WRITE_FAILED = "The object can't be written to disk; send it again later."


@dataclass(frozen=True, slots=True)
class SpooledObject:
    """Where a synced object lies; offset and size in bytes."""

    segment: str
    offset: int
    size: int


class _Segment:
    """One append-only file. Everything below `end` is synced and never written again."""

    __slots__ = ("descriptor", "end", "name")

    def __init__(self, folder_descriptor: int, name: str) -> None:
        self.name = name
        self.end = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.descriptor = os.open(name, flags, 0o640, dir_fd=folder_descriptor)
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)  # nobody takes it for a leftover
        os.fsync(folder_descriptor)  # else a power cut may lose the file with its synced bytes

    def close(self) -> None:
        os.close(self.descriptor)


class Spool:
    """The folder of segments that one listener writes. Safe for use by many threads.

    Parameters
    ----------
    folder
        Made when it doesn't exist.
    segment_bytes
        A segment of this size or more takes no further object.
    reserve_bytes
        Free space that must be left in the file system.

    Raises
    ------
    SpoolError
        The folder can't be made or opened.
    """

    def __init__(self, folder: Path, *, segment_bytes: int, reserve_bytes: int) -> None:
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._free: list[_Segment] = []  # append and pop are atomic
        self._retired: deque[_Segment] = deque()
        self._numbers = itertools.count()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SpoolError(f"The spool folder can't be used: {error.strerror}.") from error
        self._prefix = f"{spool_identity(folder)}-{time.time_ns():x}-{os.getpid():x}"

    def begin(self, header: bytes, buffer: memoryview) -> ObjectWriter:
        """Start an object with its File Meta Information.

        Parameters
        ----------
        buffer
            Longer than `header`; the writer's alone until it is sealed or discarded.

        Raises
        ------
        SpoolFullError
            Less than the reserve is free.
        SpoolError
            No segment can be created.
        """
        self.check_reserve()
        try:
            segment = self._free.pop()
        except IndexError:
            segment = self._create_segment()
        return ObjectWriter(self, segment, header, buffer)

    def check_reserve(self) -> None:
        """Raise :class:`SpoolFullError` when less than the reserve is free."""
        status = os.fstatvfs(self._folder)
        if status.f_bavail * status.f_frsize < self._reserve_bytes:
            raise SpoolFullError("Disk space is below the reserve; send it again later.")

    def give_back(self, segment: _Segment) -> None:
        """Let the next object have `segment`, unless it is full."""
        if segment.end < self._segment_bytes:
            self._free.append(segment)
        else:
            self.retire(segment)

    def retire(self, segment: _Segment) -> None:
        """Write no more to `segment`, but keep it open and locked for a while."""
        self._retired.append(segment)
        if len(self._retired) > RETIRED:
            self._retired.popleft().close()

    def close(self) -> None:
        """Close the segments that no writer holds; delete those that hold nothing."""
        while self._free:
            segment = self._free.pop()
            segment.close()
            if segment.end == 0:
                with contextlib.suppress(OSError):
                    os.unlink(segment.name, dir_fd=self._folder)
        while self._retired:
            self._retired.popleft().close()
        os.close(self._folder)

    def _create_segment(self) -> _Segment:
        try:
            return _Segment(self._folder, f"{self._prefix}-{next(self._numbers):x}{LOCKED}")
        except OSError as error:
            LOGGER.error("no spool segment can be created: %s", error.strerror)
            raise SpoolError(WRITE_FAILED) from error


class ObjectWriter:
    """One object on its way into a segment: fill :meth:`room`, then :meth:`seal` or discard."""

    __slots__ = ("_buffer", "_filled", "_next_check", "_segment", "_spool", "_written")

    def __init__(self, spool: Spool, segment: _Segment, header: bytes, buffer: memoryview) -> None:
        self._spool = spool
        self._segment: _Segment | None = segment
        self._buffer = buffer
        self._buffer[: len(header)] = header
        self._filled = len(header)
        self._written = 0
        self._next_check = RESERVE_CHECK_BYTES

    def room(self, wanted: int) -> memoryview:
        """Return at most `wanted` bytes of the buffer, at least one, for the next bytes.

        Raises
        ------
        SpoolError
            Room must be made and can't; the object is discarded.
        """
        if wanted > len(self._buffer) - self._filled and (
            wanted <= len(self._buffer) or self._filled == len(self._buffer)
        ):
            self._make_room()
        return self._buffer[self._filled : self._filled + wanted]

    def advance(self, count: int) -> None:
        """Take `count` bytes that were put into :meth:`room`."""
        self._filled += count

    def seal(self) -> SpooledObject:
        """Write the rest, sync, and return the slice, which is never written again.

        That holds even when the commit that follows fails: it may have happened all the same.

        Raises
        ------
        SpoolError
            The object is not on disk. After a failed sync nobody knows which pages are, so the
            segment takes no further object.
        """
        self._flush()
        segment = self._open_segment()
        try:
            os.fdatasync(segment.descriptor)
        except OSError as error:
            raise self._poison(error) from error
        done = SpooledObject(segment.name, segment.end, self._written)
        segment.end += self._written
        self._segment = None
        self._spool.give_back(segment)
        return done

    def discard(self) -> None:
        """Forget the object; its bytes are cut off. Does nothing after seal or a failure."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            os.ftruncate(segment.descriptor, segment.end)
        except OSError:  # not needed for correctness: the next object overwrites them
            LOGGER.warning("segment %s can't be cut back", segment.name)
        self._spool.give_back(segment)

    def _make_room(self) -> None:
        self._flush()
        if self._written >= self._next_check:
            self._next_check += RESERVE_CHECK_BYTES
            try:
                self._spool.check_reserve()
            except SpoolFullError:
                self.discard()
                raise

    def _flush(self) -> None:
        segment = self._open_segment()
        pending = self._buffer[: self._filled]
        try:
            while pending:
                count = os.pwrite(segment.descriptor, pending, segment.end + self._written)
                self._written += count
                pending = pending[count:]
        except OSError as error:
            raise self._poison(error) from error
        self._filled = 0

    def _poison(self, error: OSError) -> SpoolError:
        """Drop the segment from the pool for good; what it held before stays valid."""
        segment = self._open_segment()
        self._segment = None
        LOGGER.error("segment %s takes no more objects: %s", segment.name, error.strerror)
        with contextlib.suppress(OSError):  # on a full disk the space is wanted back
            os.ftruncate(segment.descriptor, segment.end)
        self._spool.retire(segment)
        return SpoolError(WRITE_FAILED)

    def _open_segment(self) -> _Segment:
        if self._segment is None:
            raise ValueError("the object is already sealed or discarded")
        return self._segment


class _Slice(io.RawIOBase):
    """`size` bytes of a file from `offset`, as a read-only seekable file of its own."""

    name = ""  # BufferedReader passes it on, and pydicom asks for it

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("negative seek position")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        got = os.preadv(self._descriptor, [view[:wanted]], self._offset + self._position)
        self._position += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_object(
    spool_dir: Path, segment: str, offset: int, size: int, store: Store | None = None
) -> BinaryIO:
    """Open a received object: a Part 10 file, read-only, seekable, nothing of its neighbours.

    Parameters
    ----------
    spool_dir
        Of this machine.
    segment, offset, size
        As in the ``received_object`` row; offset and size in bytes.
    store
        Where packs lie, if there are several machines.

    Raises
    ------
    SpoolError
        The segment is missing, unreadable or shorter than the row says.
    ledger.errors.StoreError
        The same of a pack in the store.
    """
    if store is not None and segment.startswith(PACKS):
        return io.BytesIO(store.get(segment, offset, size))
    if not SEGMENT_NAME.fullmatch(segment):
        raise SpoolError("The ledger names no valid spool segment.")
    try:
        descriptor = os.open(spool_dir / segment, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SpoolError(f"Spool segment {segment} can't be opened: {error.strerror}.") from error
    if os.fstat(descriptor).st_size < offset + size:
        os.close(descriptor)
        raise SpoolError(f"Spool segment {segment} is shorter than the ledger says.")
    return cast(BinaryIO, io.BufferedReader(_Slice(descriptor, offset, size), 1 << 16))
