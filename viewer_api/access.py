"""Every route's door: who asks, may they, and did the form come from our own page."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request

from ledger.database import reading, transaction
from viewer_api.context import Web, WebContext
from viewer_api.errors import FormExpiredError, NotAllowedError, SignInNeededError
from viewer_api.roles import Permission, Principal
from viewer_api.sessions import find_session, find_token, touch_session, touch_token

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_FIELD = "csrf_token"
HEADER = "x-csrf-token"
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def session_cookie(context: WebContext) -> str:
    """Return the cookie's name; behind TLS browsers bind it to this very host."""
    return "__Host-pacsight" if context.config.is_secure else "pacsight"


def visitor(request: Request, context: Web) -> Principal | None:
    """Return who asks, or None."""
    now = context.clock()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with reading(context.database) as session:
            found = find_token(session, token.strip(), now)
        if found is None:
            return None
        principal, is_stale = found
        if is_stale:
            with transaction(context.database) as session:
                touch_token(session, token.strip(), now)
        request.state.principal = principal
        return principal
    secret = request.cookies.get(session_cookie(context))
    if not secret:
        return None
    with reading(context.database) as session:
        found = find_session(session, secret, context.config, now)
    if found is None:
        return None
    principal, is_stale = found
    if is_stale and principal.session_id:
        with transaction(context.database) as session:
            touch_session(session, principal.session_id, now)
    request.state.principal = principal
    return principal


Visitor = Annotated[Principal | None, Depends(visitor)]


def require(permission: Permission) -> Callable[..., Coroutine[Any, Any, Principal]]:
    """Return a dependency that lets in who has `permission`.

    Raises
    ------
    SignInNeededError, NotAllowedError
        Nobody is signed in; the role or the token's scope doesn't allow it.
    FormExpiredError
        A request that changes something lacks the session's CSRF token.
    """

    async def door(request: Request, principal: Visitor) -> Principal:
        if principal is None:
            raise SignInNeededError("Sign in first.")
        await check_form(request, principal)
        if not principal.may(permission):
            raise NotAllowedError("Your role, or the scope of your token, doesn't allow this.")
        return principal

    return door


async def check_form(request: Request, principal: Principal) -> None:
    """Refuse a change that another site may have made the browser send.

    Tokens need no such check: a browser never adds them by itself.
    """
    if request.method in SAFE_METHODS or principal.csrf_token is None:
        return
    sent = request.headers.get(HEADER, "")
    is_form = request.headers.get("content-type", "").startswith(_FORMS)
    if not sent and is_form and request.method == "POST":
        sent = str((await request.form()).get(FORM_FIELD, ""))
    if not hmac.compare_digest(sent.encode(), principal.csrf_token.encode()):
        raise FormExpiredError("This form is too old or not from here; load the page again.")


def in_person(principal: Visitor) -> None:
    """Let in people only: a token changes neither its own account nor another's."""
    if principal is not None and principal.session_id is None:
        raise NotAllowedError("This needs a person who is signed in, not a token.")


Reader = Annotated[Principal, Depends(require(Permission.READ))]
Uploader = Annotated[Principal, Depends(require(Permission.UPLOAD))]
Deliverer = Annotated[Principal, Depends(require(Permission.DELIVER))]
Reviewer = Annotated[Principal, Depends(require(Permission.REVIEW))]
Operator = Annotated[Principal, Depends(require(Permission.OPERATE))]
