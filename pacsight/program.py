"""A role of Pacsight as it starts and stops, for the event log."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from ledger.database import transaction
from ledger.errors import LedgerError
from ledger.events import record
from pacsight import __version__

logger = logging.getLogger(__name__)


@contextmanager
def journalled(database: Engine, role: str, name: str) -> Iterator[None]:
    """Write down that a role starts, and that it stops in good order.

    Raises
    ------
    LedgerError
        The ledger can't be written at the start.
    """
    _record(database, role, name, "program.started")
    try:
        yield
    finally:
        try:
            _record(database, role, name, "program.stopped")
        except LedgerError as error:
            logger.warning("that %s stops isn't written down: %s", role, error)


def _record(database: Engine, role: str, name: str, action: str) -> None:
    with transaction(database) as session:
        record(
            session,
            actor=name[:64],
            action=action,
            subject=f"program:{role}",
            detail={"version": __version__},
            now=time.time(),
        )
