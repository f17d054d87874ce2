"""Whose the segments of a spool are, and deleting those that nobody needs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from scp.errors import SpoolError

IDENTITY = "identity"


def spool_identity(folder: Path) -> str:
    """Return the 8 hexadecimal digits that names of segments in `folder` begin with.

    They are drawn once, by whoever comes first.

    Raises
    ------
    SpoolError
        The folder can't be read or written.
    """
    path = folder / IDENTITY
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            drawn = folder / f".{IDENTITY}-{secrets.token_hex(8)}"
            drawn.write_text(secrets.token_hex(4))
            with contextlib.suppress(FileExistsError):
                os.link(drawn, path)  # of several at once, the first wins
            drawn.unlink()
        return path.read_text()
    except OSError as error:
        raise SpoolError(f"The spool folder can't be used: {error.strerror}.") from error


def delete_segment(folder: Path, segment: str) -> bool:
    """Delete a segment unless a process may still append to it; tell whether it is gone.

    The caller has made sure that no object in it is needed.
    """
    path = folder / segment
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
