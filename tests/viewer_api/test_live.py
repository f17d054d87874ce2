"""Live pages: what changes is told, to slow watchers too."""

from __future__ import annotations

import asyncio

from sqlalchemy import Engine

from ledger.database import transaction
from ledger.events import record
from viewer_api.live import LOOK_S, Changes


def test_what_changes_while_a_watcher_is_busy_is_told_next(sqlite_engine: Engine) -> None:
    def something() -> None:
        with transaction(sqlite_engine) as session:
            record(session, actor="test", action="x", subject="x", detail={}, now=0.0)

    async def story() -> None:
        changes = Changes(sqlite_engine)
        watching = changes.watch()
        first = asyncio.ensure_future(anext(watching))
        while not first.done():  # the first look only learns how things stand
            await asyncio.sleep(LOOK_S)
            something()
        assert first.result()
        seen = changes._number
        something()
        while changes._number == seen:
            await asyncio.sleep(LOOK_S)
        assert await asyncio.wait_for(anext(watching), 5)
        await watching.aclose()  # type: ignore[attr-defined]  # an async generator
        await changes.stop()

    asyncio.run(story())
