"""Converted models on disk: one file for each, whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)
_DIGEST_BYTES = 32


class ModelCache:
    """Files named by what went into them, each with the sha256 of its content in front.

    Any number of processes may read and write at once: a file appears complete, by renaming, and
    the last writer wins with the same content. A damaged file reads as absent. A folder that can't
    be written costs time, nothing else.

    Parameters
    ----------
    folder
        None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def path(self, key: tuple[object, ...]) -> Path | None:
        """Return where the model of a key is kept."""
        if self._folder is None:
            return None
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        return self._folder / f"{name}.openvino"

    def read(self, key: tuple[object, ...]) -> bytes | None:
        """Return what was written under `key`, or None."""
        path = self.path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != data[:_DIGEST_BYTES]:
            _log.warning("cached model %s is damaged and will be made again", path.name)
            return None
        return content

    def write(self, key: tuple[object, ...], content: bytes) -> None:
        """Keep `content` under `key`."""
        path = self.path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                temporary = Path(file.name)
                try:
                    file.write(hashlib.sha256(content).digest() + content)
                    file.flush()
                    os.fsync(file.fileno())
                    temporary.replace(path)
                except BaseException:
                    with contextlib.suppress(OSError):
                        temporary.unlink()
                    raise
        except OSError as error:
            _log.warning("the converted model can't be kept: %s", error.strerror)
