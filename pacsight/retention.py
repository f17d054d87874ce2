"""Retention: studies that are old or too many go, and the bytes that nobody needs any more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from ledger import retention
from ledger.database import reading, transaction
from ledger.errors import PacsightError
from ledger.retention import Expired
from ledger.tables import Study
from pacsight.settings import Settings
from scp.sweeping import Swept, sweep

logger = logging.getLogger(__name__)

EVERY_S = 900.0
YOUNGEST_S = 3600.0
"""A study that got something so recently never goes, whatever the disk."""
BATCH = 100
LOCK = 0x5041435B
DAY_S = 86400.0


@dataclass(slots=True)
class Outcome:
    """What a run has removed, or would, and why it keeps what is old enough."""

    by_age: list[Expired] = field(default_factory=list)
    by_size: list[Expired] = field(default_factory=list)
    kept_because: dict[str, int] = field(default_factory=dict)
    swept: Swept = field(default_factory=Swept)


class Retention:
    """One runs in each worker that reads a spool; several at once do no harm."""

    def __init__(self, settings: Settings, database: Engine, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._rules = settings.retention
        self._database = database
        self._clock = clock
        self._store = settings.open_store()

    def run(self, stop: threading.Event) -> None:
        """Run now and then until `stop` is set."""
        while not stop.is_set():
            try:
                self.once()
            except PacsightError as error:
                logger.warning("retention waits: %s: %s", error.code, error)
            except Exception as error:  # noqa: BLE001 - a silent end would let the disk fill up
                logger.error("retention waits: %s", type(error).__name__)
            stop.wait(EVERY_S)

    def once(self, *, is_dry: bool = False) -> Outcome:
        """Remove what may go, or only tell.

        Raises
        ------
        ledger.errors.LedgerError, ledger.errors.StoreError, scp.errors.SpoolError
            Not everything was done; what was is consistent, and the next run goes on.
        """
        outcome = Outcome()
        if not is_dry:
            self._remove_files()
        self._by_age(outcome, is_dry)
        self._by_size(outcome, is_dry)
        if not is_dry:
            self._remove_files()
        outcome.swept = sweep(
            self._database,
            self._settings.spool_dir,
            self._settings.open_shared_store(),
            now=self._clock(),
            is_dry=is_dry,
        )
        return outcome

    def _by_age(self, outcome: Outcome, is_dry: bool) -> None:
        if self._rules.keep_days is None:
            return
        before = self._clock() - max(self._rules.keep_days * DAY_S, YOUNGEST_S)
        expire = self._preview if is_dry else self._expire
        outcome.by_age = expire(before, "age", None, 0)
        with reading(self._database) as session:
            outcome.kept_because = retention.kept_because(session, before)

    def _by_size(self, outcome: Outcome, is_dry: bool) -> None:
        if self._rules.keep_bytes is None:
            return
        with reading(self._database) as session:
            excess = retention.kept_bytes(session) - self._rules.keep_bytes
        if is_dry:
            excess -= sum(one.size for one in outcome.by_age)
        if excess <= 0:
            return
        before = self._clock() - YOUNGEST_S
        expire = self._preview if is_dry else self._expire
        outcome.by_size = expire(before, "size", excess, len(outcome.by_age) if is_dry else 0)
        left = excess - sum(one.size for one in outcome.by_size)
        if left > 0:
            logger.warning("%d bytes more are kept than retention.keep_bytes allows", left)

    def _expire(self, before: float, why: str, excess: int | None, _: int) -> list[Expired]:
        """Give up the oldest studies: all of them, or until `excess` bytes are."""
        gone: list[Expired] = []
        freed = 0
        while excess is None or freed < excess:
            with transaction(self._database) as session:
                if not _is_alone(session):
                    break
                batch = []
                for study_id in session.scalars(retention.removable(before, BATCH)).all():
                    if excess is not None and freed >= excess:
                        break
                    expired = retention.expire(session, study_id, why=why, now=self._clock())
                    if expired is not None:
                        batch.append(expired)
                        freed += expired.size
            if not batch:
                break
            gone += batch
        return gone

    def _preview(self, before: float, why: str, excess: int | None, skip: int) -> list[Expired]:
        """Return what :meth:`_expire` would, leaving out the `skip` oldest."""
        would: list[Expired] = []
        with reading(self._database) as session:
            ids = session.scalars(retention.removable(before, None)).all()
            for study_id in ids[skip:]:
                if excess is not None and sum(one.size for one in would) >= excess:
                    break
                study = session.get_one(Study, study_id)
                size = retention.study_bytes(session, study_id)
                would.append(Expired(study.study_instance_uid, size))
        return would

    def _remove_files(self) -> None:
        """Remove the files of results of what was given up, now or before a crash."""
        while True:
            with reading(self._database) as session:
                files = retention.files_to_remove(session, BATCH)
            if not files:
                return
            keys = [key for of_study in files.values() for key in of_study]
            if keys:
                self._store.delete(keys)
            with transaction(self._database) as session:
                retention.note_removed(session, list(files))


def _is_alone(session: Session) -> bool:
    """Tell whether no other machine is giving up studies at the moment."""
    if session.get_bind().dialect.name != "postgresql":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(LOCK))))
