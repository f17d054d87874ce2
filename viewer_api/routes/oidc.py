"""Single sign-on: to the identity provider and back."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from ledger.database import transaction
from ledger.events import record
from viewer_api.config import OidcConfig
from viewer_api.context import Web, WebContext
from viewer_api.errors import PageNotFoundError
from viewer_api.oidc import Attempt, account_of, identify, sign_in_address
from viewer_api.routes.auth import forget_session, set_session_cookie
from viewer_api.sessions import open_session

router = APIRouter(prefix="/oidc")
ATTEMPT_S = 600


def _cookie(context: WebContext) -> str:
    return "__Host-pacsight-oidc" if context.config.is_secure else "pacsight-oidc"


def _config(context: WebContext) -> OidcConfig:
    if context.config.oidc is None:
        raise PageNotFoundError("Single sign-on is not set up here.")
    return context.config.oidc


def _callback(request: Request, context: WebContext) -> str:
    base = context.config.public_url or str(request.base_url).rstrip("/")
    return f"{base}/oidc/callback"


@router.get("/login")
def login(request: Request, context: Web) -> Response:
    """Send the browser to the provider."""
    config, attempt = _config(context), Attempt.new()
    context.sign_ins.count(request.client.host if request.client else "")
    address = sign_in_address(config, _callback(request, context), attempt)
    response = RedirectResponse(address, 303)
    response.set_cookie(
        _cookie(context),
        attempt.text,
        max_age=ATTEMPT_S,
        path="/",
        secure=context.config.is_secure,
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/callback")
def callback(request: Request, context: Web) -> Response:
    """Take the provider's answer and open a session."""
    config = _config(context)
    attempt = Attempt.parse(request.cookies.get(_cookie(context), ""))
    answer = f"{_callback(request, context)}?{request.url.query}"
    identity = identify(config, _callback(request, context), attempt, answer)
    now = context.clock()
    with transaction(context.database) as session:
        user = account_of(session, identity, now)
        secret = open_session(session, user, context.config, now)
        record(
            session,
            actor=user.login,
            action="web.signed_in",
            subject=f"user:{user.login}",
            detail={"with": "oidc"},
            now=now,
        )
    forget_session(request, context)
    response = RedirectResponse("/", 303)
    set_session_cookie(response, context, secret)
    response.delete_cookie(_cookie(context), secure=context.config.is_secure, httponly=True)
    return response
