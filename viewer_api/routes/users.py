"""Users, for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from ledger.database import reading, transaction
from viewer_api.access import Operator, in_person
from viewer_api.accounts import ROLES, add_user, change_user, find_user, list_users, set_password
from viewer_api.context import Web, WebContext
from viewer_api.errors import InputError
from viewer_api.pages import render

router = APIRouter(prefix="/operations/users", dependencies=[Depends(in_person)])


@router.get("")
def page(request: Request, context: Web, user: Operator) -> Response:
    """List users."""
    return _page(request, context)


@router.post("")
def add(
    request: Request,
    context: Web,
    user: Operator,
    login: Annotated[str, Form(max_length=64)],
    role: Annotated[str, Form()],
    password: Annotated[str, Form(max_length=1024)],
    name: Annotated[str, Form(max_length=128)] = "",
) -> Response:
    """Add a user."""
    try:
        with transaction(context.database) as session:
            add_user(
                session,
                login=login,
                name=name,
                role=role,
                password=password,
                actor=user.login,
                now=context.clock(),
            )
    except InputError as error:
        return _page(request, context, error.status, str(error))
    return RedirectResponse("/operations/users", 303)


@router.post("/{login}")
def change(
    request: Request,
    context: Web,
    user: Operator,
    login: str,
    role: Annotated[str, Form()],
    active: Annotated[bool, Form()] = False,
    password: Annotated[str, Form(max_length=1024)] = "",
) -> Response:
    """Change role, whether the user may sign in, and the password if one is given."""
    now = context.clock()
    try:
        with transaction(context.database) as session:
            account = find_user(session, login)
            change_user(session, account, role=role, is_active=active, actor=user.login, now=now)
            if password:
                set_password(session, account, password, actor=user.login, now=now)
    except InputError as error:
        return _page(request, context, error.status, str(error))
    return RedirectResponse("/operations/users", 303)


def _page(request: Request, context: WebContext, status: int = 200, problem: str = "") -> Response:
    with reading(context.database) as session:
        users = list_users(session)
    return render(request, "users", status, users=users, roles=ROLES, problem=problem)
