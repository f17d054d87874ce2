"""How much memory decoding may take at a time: ten people scroll ten volumes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from inference.errors import NotAnImageError
from inference.nifti import count_voxels
from viewer_api.errors import BusyError

BYTES_PER_SAMPLE = 16
"""As stored, decoded, as float32, and as sent."""
PATIENCE_S = 10.0
QUEUE = 16
"""Requests that wait at a time: each holds a thread, of which other pages need some."""
ANSWER_BYTES = 1 << 28
"""What unpacking a stored answer takes: the mask of 1,000 slices of 512 x 512."""


class DecodingBudget:
    """Memory that decoding shares.

    Parameters
    ----------
    total_bytes
        What requests together may take. One that needs more than all runs alone.
    patience_s
        How long one waits for the others.
    """

    def __init__(self, total_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self._total = self._left = total_bytes
        self._patience_s = patience_s
        self._waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take `size` bytes of the budget as long as the context lasts.

        Raises
        ------
        BusyError
            Others need the memory, and didn't give it back in time.
        """
        size = min(size, self._total)
        with self._changed:
            self._wait_for(size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()

    def _wait_for(self, size: int) -> None:
        deadline = time.monotonic() + self._patience_s
        if self._left >= size:
            return
        if self._waiting >= QUEUE:
            raise _busy()
        self._waiting += 1
        try:
            if not self._changed.wait_for(
                lambda: self._left >= size, max(0.0, deadline - time.monotonic())
            ):
                raise _busy()
        finally:
            self._waiting -= 1


def _busy() -> BusyError:
    return BusyError("Many images are being prepared at this moment; try again in a few seconds.")


def needed_bytes(path: Path, kind: str) -> int:
    """Return about what reading an uploaded file takes, from its header alone; 0 for DICOM.

    A header that can't be read costs nothing: its file will be refused.
    """
    try:
        if kind == "picture":
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                return image.width * image.height * BYTES_PER_SAMPLE
        if kind == "nifti":
            return count_voxels(path) * BYTES_PER_SAMPLE
    except (Image.DecompressionBombError, NotAnImageError, OSError, SyntaxError, ValueError):
        return 0
    return 0
