"""Strangers at the receiver's door, into the event log: once a minute, however often they knock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine

from ledger.database import transaction
from ledger.errors import LedgerError
from ledger.events import record
from scp.receive_counts import ReceiveCounts

logger = logging.getLogger(__name__)

EVERY_S = 60.0


class RejectionJournal:
    """Writes an event for each peer whose associations were rejected. A context manager."""

    def __init__(
        self, database: Engine, counts: ReceiveCounts, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._counts = counts
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rejections", daemon=True)

    def __enter__(self) -> None:
        """Begin."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Write what is left, and end."""
        self._stop.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._write()

    def _write(self) -> None:
        taken = self._counts.take_rejections()
        if not taken:
            return
        try:
            with transaction(self._database) as session:
                for (title, address, reason), count in taken.items():
                    record(
                        session,
                        actor=title or "unknown",
                        action="association.rejected",
                        subject=f"peer:{address or 'several'}",
                        detail={"reason": reason, "count": count},
                        now=self._clock(),
                    )
        except LedgerError as error:
            logger.warning("rejected associations aren't written down: %s", error)
