"""Server-sent events: that something changed, not what; the page asks for what it may see."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from viewer_api.access import Reader
from viewer_api.live import Changes

router = APIRouter()


@router.get("/changes")
async def changes(request: Request, user: Reader) -> StreamingResponse:
    """Say ``change`` whenever studies, jobs, deliveries or events do."""
    source: Changes = request.app.state.changes

    async def lines() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        async for is_changed in source.watch():
            yield "event: change\ndata: 1\n\n" if is_changed else ": still here\n\n"

    headers = {"x-accel-buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)
