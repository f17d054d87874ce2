"""The thread of a worker that keeps the audit trail: seal, note, forward, verify."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from ledger.anchors import note_head, noted_heads
from ledger.audit import SUBJECT, last_verification, verify_and_record
from ledger.database import reading, transaction
from ledger.errors import LedgerError, PacsightError
from ledger.events import record
from ledger.seal import NOTHING, Head, read_head, seal_events
from ledger.tables import Event
from pacsight.audit.forwarder import Forwarder
from pacsight.audit.trail import Ourselves
from pacsight.settings import Settings

logger = logging.getLogger(__name__)

ACTOR = "audit"
NOTED = "audit.noted"
SEAL_S = 0.5
NOTE_S = 60.0
TELL_S = 600.0
"""How often the collector is told where the chain stands, while it grows."""
VERIFY_S = 86400.0
LOOK_S = 3600.0
"""How often to look whether a day is over."""
LONGEST_PAUSE_S = 60.0


@dataclass(slots=True)
class _Due:
    """Something to do now and then; later each time in a row that it fails."""

    every_s: float
    act: Callable[[], bool]
    """Return whether to do it again at once."""
    at: float = 0.0
    """when next, by the monotonic clock"""
    failures: int = field(default=0)

    def run(self) -> None:
        now = time.monotonic()
        if now < self.at:
            return
        try:
            self.at = now if self.act() else now + self.every_s
            self.failures = 0
        except (PacsightError, OSError) as error:
            self.failures += 1
            self.at = now + min(max(self.every_s, 2.0**self.failures), LONGEST_PAUSE_S)
            if self.failures == 1:
                code = error.code if isinstance(error, PacsightError) else "OS_ERROR"
                logger.warning("audit trail: %s: %s", code, error)
        except Exception as error:  # noqa: BLE001 - a defect must not end the sealing of events
            self.at = now + LONGEST_PAUSE_S
            logger.error("audit trail: %s", type(error).__name__)


class Auditor:
    """Seals events within about a second; several workers may each have one. A context manager.

    Parameters
    ----------
    clock
        Seconds since 1970 UTC.
    """

    def __init__(self, settings: Settings, database: Engine, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._noted = NOTHING
        self._stop = threading.Event()
        keeping = [_Due(SEAL_S, self._seal), _Due(NOTE_S, self._note)]
        verifying = [_Due(LOOK_S, self._verify, at=time.monotonic() + NOTE_S)]
        self._threads = [
            self._thread("audit", keeping),
            self._thread("audit-verify", verifying),  # minutes, where there are millions of events
        ]
        self._forwarder = self._make_forwarder()
        if self._forwarder is not None:
            forwarding = [_Due(1.0, self._forward), _Due(TELL_S, self._tell)]
            self._threads.append(self._thread("audit-forward", forwarding))

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Seal and note what is there, and end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        try:
            while self._seal():
                pass
            self._note()
            if self._forwarder is not None:
                self._forwarder.stop()
        except (LedgerError, OSError) as error:
            logger.warning("audit trail: the next worker goes on with it: %s", error)

    def _thread(self, name: str, tasks: list[_Due]) -> threading.Thread:
        def run() -> None:
            pause = 0.0
            while not self._stop.wait(pause):
                for task in tasks:
                    task.run()
                pause = min(SEAL_S, max(0.0, min(task.at for task in tasks) - time.monotonic()))

        return threading.Thread(target=run, name=name, daemon=True)

    def _make_forwarder(self) -> Forwarder | None:
        settings = self._settings
        if settings.audit.collector is None:
            return None
        ourselves = Ourselves(
            ae_title=settings.scp.ae_title,
            host=socket.gethostname(),
            source_id=settings.audit.source_id,
            destinations={one.name: one for one in settings.destinations},
        )
        return Forwarder(self._database, settings.audit, settings.audit.collector, ourselves)

    def _seal(self) -> bool:
        return seal_events(self._database) > 0

    def _note(self) -> bool:
        """Write the head outside of the database, if it moved."""
        with reading(self._database) as session:
            head = read_head(session)
        if head.number > self._noted.number:
            note_head(self._settings.data_dir, head, self._clock())
            self._noted = head
        return False

    def _forward(self) -> bool:
        assert self._forwarder is not None
        return self._forwarder.forward() > 0

    def _tell(self) -> bool:
        """Write where the chain stands as an event, which the collector gets."""
        with transaction(self._database) as session:
            head = read_head(session)
            if head.number > 0 and not _is_note(session, head):
                detail = {"number": head.number, "digest": head.digest}
                record(
                    session,
                    actor=ACTOR,
                    action=NOTED,
                    subject=SUBJECT,
                    detail=detail,
                    now=self._clock(),
                )
        return False

    def _verify(self) -> bool:
        """Verify the whole log once a day, by the first worker that comes to it."""
        with reading(self._database) as session:
            last = last_verification(session)
        if last is None or last.at < self._clock() - VERIFY_S:
            anchors = noted_heads(self._settings.data_dir)
            verify_and_record(self._database, anchors, actor=ACTOR, now=self._clock())
        return False


def _is_note(session: Session, head: Head) -> bool:
    action = session.scalar(select(Event.action).where(Event.number == head.number))
    return action == NOTED
