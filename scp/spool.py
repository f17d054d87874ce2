"""The spool: append-only segments that hold received objects as Part 10 files, one after another.

An object is the slice ``(segment, offset, size)`` of its ``received_object`` row. Bytes of a segment
that no row names are worth nothing: an unfinished object, or one whose commit failed.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import BinaryIO, cast

from scp.errors import SpoolError

SEGMENT_NAME = re.compile(r"[0-9a-z-]{1,123}\.seg")


class _Slice(io.RawIOBase):
    """`size` bytes of a file from `offset`, as a read-only seekable file of its own."""

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

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        got = os.preadv(self._descriptor, [view[:wanted]], self._offset + self._position)
        self._position += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def open_object(spool_dir: Path, segment: str, offset: int, size: int) -> BinaryIO:
    """Open a received object: a Part 10 file, read-only, seekable, nothing of its neighbours.

    Parameters
    ----------
    segment, offset, size
        As in the ``received_object`` row; offset and size in bytes.

    Raises
    ------
    SpoolError
        The segment is missing, unreadable or shorter than the row says.
    """
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
