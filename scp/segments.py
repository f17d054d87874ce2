"""Whose the segments of a spool are."""

from __future__ import annotations

import contextlib
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
