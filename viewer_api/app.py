"""The application: every room behind its door, every answer with its headers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from ledger.errors import PacsightError
from viewer_api.context import WebContext
from viewer_api.dicomweb.metadata import MetadataCache
from viewer_api.errors import InputError, PageNotFoundError, SignInNeededError, WebError
from viewer_api.headers import GuardedApp
from viewer_api.live import Changes
from viewer_api.pages import STATIC, render
from viewer_api.routes import ROUTERS

logger = logging.getLogger(__name__)

UNAUTHORIZED, UNAVAILABLE = 401, 503
_UNUSABLE = (RequestValidationError, OverflowError, DataError)
"""What was asked for can't be: it is not as its field is, or too large for the ledger."""


class _Assets(StaticFiles):
    """Our own files; their addresses change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def create_app(context: WebContext) -> GuardedApp:
    """Return the ASGI application; it serves as long as `context` is open."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context.intake.start()
        app.state.changes = Changes(context.database)
        yield
        await app.state.changes.stop()
        context.intake.stop()

    app = FastAPI(
        title="Pacsight",
        version=context.version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.context = context
    app.state.metadata = MetadataCache()
    app.mount("/static", _Assets(directory=STATIC), name="static")
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(PacsightError, _reported)
    for kind in _UNUSABLE:
        app.add_exception_handler(kind, _reported)
    app.add_exception_handler(HTTPException, _reported)
    app.add_exception_handler(Exception, _defect)
    return GuardedApp(app, context.config)


async def _reported(request: Request, error: Exception) -> Response:
    """Answer an error with its code and sentence, as a page or as JSON."""
    if isinstance(error, SignInNeededError) and _wants_page(request) and request.method == "GET":
        return RedirectResponse(f"/login?{urlencode({'next': request.url.path})}", 303)
    if isinstance(error, _UNUSABLE):
        error = InputError("A field is missing or has a wrong value; correct it.")
    elif isinstance(error, HTTPException):
        if error.status_code not in (404, 405):
            refusal = InputError("The request can't be read; it is damaged or too large.")
            return _answer(request, refusal, error.status_code)
        error = PageNotFoundError("There is no such page.")
    assert isinstance(error, PacsightError)
    status = error.status if isinstance(error, WebError) else UNAVAILABLE
    return _answer(request, error, status)


async def _defect(request: Request, error: Exception) -> Response:
    # Neither the message nor the locals are logged: they may hold a patient's data.
    logger.error("%s %s: %s", request.method, request.scope.get("route"), type(error).__name__)
    return _answer(
        request, WebError("Something went wrong here; it is logged. Please report it."), 500
    )


def _answer(request: Request, error: PacsightError, status: int) -> Response:
    if _wants_page(request):
        return render(request, "error", status, code=error.code, message=str(error))
    headers = {"www-authenticate": 'Bearer realm="pacsight"'} if status == UNAUTHORIZED else None
    return JSONResponse({"code": error.code, "message": str(error)}, status, headers)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
