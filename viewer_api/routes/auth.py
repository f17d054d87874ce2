"""In and out: password, and the way out. Single sign-on has a module of its own."""

from __future__ import annotations

import hmac
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from ledger.database import transaction
from ledger.events import record
from viewer_api.access import Visitor, check_form, session_cookie
from viewer_api.context import Web, WebContext
from viewer_api.errors import FormExpiredError, SignInFailedError, TooManyAttemptsError
from viewer_api.pages import render
from viewer_api.roles import Principal
from viewer_api.sessions import close_session, digest
from viewer_api.sign_in import sign_in

router = APIRouter()


def form_cookie(context: WebContext) -> str:
    """Return the name of the cookie that ties the sign-in form to this browser."""
    return "__Host-pacsight-form" if context.config.is_secure else "pacsight-form"


def local_path(path: str) -> str:
    """Return a path of this app to go on to, or ``/``; never another site."""
    is_local = path.startswith("/") and not path.startswith("//")
    return path if is_local and "\\" not in path and path.isprintable() else "/"


def set_session_cookie(response: Response, context: WebContext, secret: str) -> None:
    """Give the browser its session; scripts can't read it, other sites can't post with it."""
    response.set_cookie(
        session_cookie(context),
        secret,
        max_age=int(context.config.session_lifetime_s),
        path="/",
        secure=context.config.is_secure,
        httponly=True,
        samesite="lax",
    )


@router.get("/login")
def login_page(request: Request, context: Web, user: Visitor, next: str = "/") -> Response:
    """Show the sign-in form."""
    if user is not None:
        return RedirectResponse(local_path(next), 303)
    return _form(request, context, local_path(next))


@router.post("/login")
def login(
    request: Request,
    context: Web,
    login: Annotated[str, Form(max_length=256)],
    password: Annotated[str, Form(max_length=1024)],
    form_token: Annotated[str, Form(max_length=128)] = "",
    next: Annotated[str, Form(max_length=2048)] = "/",
) -> Response:
    """Sign in with login and password; whatever session the browser had is forgotten."""
    secret = request.cookies.get(form_cookie(context), "")
    if not secret or not hmac.compare_digest(digest(secret).encode(), form_token.encode()):
        raise FormExpiredError("This form is too old; load the page again.")
    try:
        context.sign_ins.count(request.client.host if request.client else "")
        session = sign_in(context.database, context.config, login, password, context.clock())
    except (SignInFailedError, TooManyAttemptsError) as error:
        return _form(request, context, local_path(next), error.status, str(error))
    forget_session(request, context)
    response = RedirectResponse(local_path(next), 303)
    set_session_cookie(response, context, session)
    return response


async def leaver(request: Request, user: Visitor) -> Principal | None:
    """Return who wants to go, unless another site sent the form; nobody is fine too."""
    if user is not None:
        await check_form(request, user)
    return user


@router.post("/logout")
def logout(
    request: Request, context: Web, user: Annotated[Principal | None, Depends(leaver)]
) -> Response:
    """End the session."""
    if user is not None:
        forget_session(request, context)
        with transaction(context.database) as session:
            subject = f"user:{user.login}"
            record(
                session,
                actor=user.login,
                action="web.signed_out",
                subject=subject,
                detail={},
                now=context.clock(),
            )
    response = RedirectResponse("/", 303)
    response.delete_cookie(session_cookie(context), secure=context.config.is_secure, httponly=True)
    return response


def forget_session(request: Request, context: WebContext) -> None:
    """End the session that the browser has, if any."""
    old = request.cookies.get(session_cookie(context))
    if old:
        with transaction(context.database) as session:
            close_session(session, digest(old))


def _form(
    request: Request, context: WebContext, path: str, status: int = 200, problem: str = ""
) -> Response:
    """Return the form and the cookie that only this browser has."""
    secret = request.cookies.get(form_cookie(context)) or secrets.token_urlsafe(24)
    oidc = context.config.oidc
    response = render(
        request,
        "login",
        status,
        next=path,
        problem=problem,
        form_token=digest(secret),
        oidc_name=oidc.name if oidc else None,
    )
    response.set_cookie(
        form_cookie(context),
        secret,
        path="/",
        secure=context.config.is_secure,
        httponly=True,
        samesite="strict",
    )
    return response
