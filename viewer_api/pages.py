"""Templates to pages."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from viewer_api.config import WebConfig
from viewer_api.roles import Principal
from viewer_api.translation import LANGUAGES, words_of

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
THEME_COOKIE = "theme"
THEMES = ("dark", "light")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(["jinja"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["static"] = static_url
    environment.globals["LANGUAGES"] = LANGUAGES
    return environment


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """Return the address of a file of ours; it changes with the content, so it may be kept."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page for who asks, in their language and theme."""
    principal: Principal | None = getattr(request.state, "principal", None)
    theme = request.cookies.get(THEME_COOKIE)
    config: WebConfig = request.app.state.context.config
    html = (
        _environment()
        .get_template(f"{template}.jinja")
        .render(
            _=(say := words_of(request)),
            say=say,
            user=principal,
            csrf_token=principal.csrf_token if principal else None,
            theme=theme if theme in THEMES else None,
            path=request.url.path,
            version=request.app.state.context.version,
            has_oidc=config.oidc is not None,
            **values,
        )
    )
    return HTMLResponse(html, status)
