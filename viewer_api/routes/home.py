"""The front door: what this is, and how it looks and speaks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import text

from ledger.database import reading
from viewer_api.access import Visitor
from viewer_api.context import Web
from viewer_api.errors import InputError
from viewer_api.pages import THEME_COOKIE, THEMES, render
from viewer_api.routes.auth import local_path
from viewer_api.translation import COOKIE, LANGUAGES

router = APIRouter()
YEAR_S = 365 * 86400


@router.get("/")
def home(request: Request, context: Web, user: Visitor) -> Response:
    """Explain the service in a minute."""
    models = [package.manifest for package in context.registry.models]
    return render(request, "home", models=models, destinations=context.destinations)


@router.get("/healthz")
def alive() -> dict[str, str]:
    """Tell that the app answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(context: Web) -> dict[str, str]:
    """Tell that it reaches its ledger."""
    with reading(context.database) as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok", "version": context.version}


@router.post("/appearance")
def appearance(
    context: Web,
    theme: Annotated[str | None, Form()] = None,
    language: Annotated[str | None, Form()] = None,
    next: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Choose theme or language; nobody needs to be signed in, and nothing else changes."""
    response = RedirectResponse(local_path(next), 303)
    for cookie, value, known in ((THEME_COOKIE, theme, THEMES), (COOKIE, language, LANGUAGES)):
        if value is None:
            continue
        if value not in known:
            raise InputError("There is no such theme or language.")
        response.set_cookie(
            cookie,
            value,
            max_age=YEAR_S,
            path="/",
            secure=context.config.is_secure,
            httponly=True,
            samesite="lax",
        )
    return response
