"""What probes look at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, text

from ledger.database import reading
from pacsight.errors import NotReadyError


def reaches_ledger(database: Engine) -> None:
    """Raise LedgerError if the ledger can't be read."""
    with reading(database) as session:
        session.execute(text("SELECT 1"))


def has_space(folder: Path, reserve_bytes: int) -> None:
    """Raise NotReadyError if less than the reserve is free."""
    status = os.statvfs(folder)
    if status.f_bavail * status.f_frsize < reserve_bytes:
        raise NotReadyError("Disk space is below the reserve.")


def holds(condition: Callable[[], bool], what: str) -> Callable[[], None]:
    """Return a check that `condition` is true."""

    def check() -> None:
        if not condition():
            raise NotReadyError(f"It is not so that {what}.")

    return check
