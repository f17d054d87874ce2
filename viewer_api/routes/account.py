"""One's own account: password and API tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from ledger.database import reading, transaction
from ledger.web_tables import UserAccount
from viewer_api.access import Reader, in_person
from viewer_api.accounts import set_password
from viewer_api.context import Web, WebContext
from viewer_api.errors import InputError
from viewer_api.pages import render
from viewer_api.passwords import is_password
from viewer_api.roles import Principal
from viewer_api.sessions import list_tokens, make_token, revoke_token

router = APIRouter(prefix="/account", dependencies=[Depends(in_person)])


@router.get("")
def page(request: Request, context: Web, user: Reader) -> Response:
    """Show the account."""
    return _page(request, context, user)


@router.post("/password")
def change_password(
    request: Request,
    context: Web,
    user: Reader,
    current: Annotated[str, Form(max_length=1024)],
    new: Annotated[str, Form(max_length=1024)],
    end_tokens: Annotated[bool, Form()] = False,
) -> Response:
    """Change the password; sessions elsewhere end, and tokens if that is wished."""
    now = context.clock()
    context.sign_ins.count(f"user:{user.user_id}")  # a stolen session is no way to guess it
    with reading(context.database) as session:
        hashed = session.get_one(UserAccount, user.user_id).password_hash
    try:
        if not is_password(current, hashed):
            raise InputError("The present password is wrong.")
        with transaction(context.database) as session:
            account = session.get_one(UserAccount, user.user_id)
            set_password(
                session,
                account,
                new,
                actor=user.login,
                now=now,
                keep_session=user.session_id,
                ends_tokens=end_tokens,
            )
    except InputError as error:
        return _page(request, context, user, error.status, problem=str(error))
    return _page(request, context, user, done="password")


@router.post("/tokens")
def add_token(
    request: Request,
    context: Web,
    user: Reader,
    name: Annotated[str, Form(max_length=64)],
    days: Annotated[int, Form()] = 90,
    scopes: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make an API token and show it once."""
    try:
        with transaction(context.database) as session:
            token = make_token(
                session, user, name=name, scopes=scopes or (), days=days, now=context.clock()
            )
    except InputError as error:
        return _page(request, context, user, error.status, problem=str(error))
    return _page(request, context, user, token=token)


@router.post("/tokens/{token_id}/revoke")
def end_token(context: Web, user: Reader, token_id: int) -> Response:
    """End one of one's own tokens."""
    with transaction(context.database) as session:
        revoke_token(session, user, token_id, context.clock())
    return RedirectResponse("/account", 303)


def _page(
    request: Request,
    context: WebContext,
    user: Principal,
    status: int = 200,
    *,
    problem: str = "",
    done: str = "",
    token: str = "",
) -> Response:
    with reading(context.database) as session:
        tokens = list_tokens(session, user.user_id)
        has_password = session.get_one(UserAccount, user.user_id).password_hash is not None
    return render(
        request,
        "account",
        status,
        tokens=tokens,
        has_password=has_password,
        problem=problem,
        done=done,
        token=token,
        now=context.clock(),
    )
