"""What probes look at."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, text

from ledger.database import reading
from pacsight.errors import NotReadyError


def reaches_ledger(database: Engine) -> None:
    """Raise LedgerError if the ledger can't be read."""
    with reading(database) as session:
        session.execute(text("SELECT 1"))


def holds(condition: Callable[[], bool], what: str) -> Callable[[], None]:
    """Return a check that `condition` is true."""

    def check() -> None:
        if not condition():
            raise NotReadyError(f"It is not so that {what}.")

    return check
