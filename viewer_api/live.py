"""Whether anything happened: one look at the ledger a moment, for all who watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.database import reading
from ledger.errors import LedgerError
from ledger.tables import Delivery, Event, Instance, Job, Study

LOOK_S = 0.3
PING_S = 15.0


class Changes:
    """Tells watchers that something changed; looks only while somebody watches."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._changed = asyncio.Condition()
        self._number = 0
        self._watchers = 0
        self._task: asyncio.Task[None] | None = None
        self.is_stopping = False

    async def watch(self) -> AsyncIterator[bool]:
        """Yield True when something changed and False now and then when not."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        seen = self._number
        try:
            while not self.is_stopping:
                async with self._changed:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PING_S):
                            await self._changed.wait_for(
                                lambda: self._number != seen or self.is_stopping  # noqa: B023
                            )
                is_changed, seen = self._number != seen, self._number
                yield is_changed  # what changes while the watcher is busy comes next
        finally:
            self._watchers -= 1

    async def stop(self) -> None:
        """Let every watcher go."""
        self.is_stopping = True
        async with self._changed:
            self._changed.notify_all()
        if self._task is not None:
            await self._task

    async def _look(self) -> None:
        known: object = None
        while self._watchers and not self.is_stopping:
            with contextlib.suppress(LedgerError, SQLAlchemyError):  # or nobody looks any more
                now = await run_in_threadpool(self._signature)
                if known is not None and now != known:
                    async with self._changed:
                        self._number += 1
                        self._changed.notify_all()
                known = now
            await asyncio.sleep(LOOK_S)
        self._task = None

    def _signature(self) -> tuple[object, ...]:
        """Return numbers that differ whenever a page would; each is the end of an index."""
        with reading(self._database) as session:
            return (
                session.scalar(select(func.max(Event.id))),
                session.scalar(select(func.max(Instance.id))),
                *session.execute(
                    select(Job.state, func.count())
                    .where(Job.state.in_(["queued", "running"]))
                    .group_by(Job.state)
                    .order_by(Job.state)
                ).all(),
                session.scalar(
                    select(func.count()).select_from(Delivery).where(Delivery.state == "pending")
                ),
                session.scalar(select(func.max(Study.changed_at))),  # until the worklist shows it
            )
