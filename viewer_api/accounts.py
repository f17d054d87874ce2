"""User accounts: made, found, changed. Used by the web app and by ``pacsight users``."""

from __future__ import annotations

import re
from typing import Any, get_args

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from ledger.events import record
from ledger.web_tables import ApiToken, LoginSession, UserAccount
from viewer_api.config import Role
from viewer_api.errors import InputError, LoginTakenError, PageNotFoundError
from viewer_api.passwords import hash_password

ROLES: tuple[Role, ...] = get_args(Role)
_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


def normal_login(login: str) -> str:
    """Return a login as it is stored.

    Raises
    ------
    InputError
        It has characters that a login can't have.
    """
    normal = login.strip().casefold()
    if not _LOGIN.fullmatch(normal):
        raise InputError("A login has 1 to 64 letters, digits or . _ @ - and starts with neither.")
    return normal


def add_user(
    session: Session,
    *,
    login: str,
    name: str,
    role: str,
    password: str | None,
    actor: str,
    now: float,
    oidc_subject: str | None = None,
) -> UserAccount:
    """Add a user.

    Raises
    ------
    InputError
        A field has no usable value, or the login is taken.
    """
    normal = normal_login(login)
    if session.scalar(select(UserAccount.id).where(UserAccount.login == normal)) is not None:
        raise LoginTakenError("Another user has this login; choose another.")
    user = UserAccount(
        login=normal,
        name=name.strip()[:128] or normal,
        role=_role(role),
        password_hash=None if password is None else hash_password(password, normal),
        oidc_subject=oidc_subject,
        is_active=True,
        created_at=now,
    )
    session.add(user)
    session.flush()
    _journal(session, actor, "user.added", user, now, role=role)
    return user


def find_user(session: Session, login: str) -> UserAccount:
    """Return the user of a login.

    Raises
    ------
    PageNotFoundError
        There is none.
    """
    user = session.scalar(select(UserAccount).where(UserAccount.login == login.strip().casefold()))
    if user is None:
        raise PageNotFoundError("There is no such user; see the list of users.")
    return user


def list_users(session: Session) -> list[dict[str, Any]]:
    """Return all users by login."""
    rows = session.scalars(select(UserAccount).order_by(UserAccount.login))
    return [
        {
            "login": row.login,
            "name": row.name,
            "role": row.role,
            "active": row.is_active,
            "signs_in_with": "password" if row.password_hash else "single sign-on",
            "last_login_at": row.last_login_at,
        }
        for row in rows
    ]


def set_password(
    session: Session,
    user: UserAccount,
    password: str,
    *,
    actor: str,
    now: float,
    keep_session: str | None = None,
    ends_tokens: bool = True,
) -> None:
    """Change a password; end the user's sessions but for the one given, and the API tokens.

    Parameters
    ----------
    ends_tokens
        False leaves the tokens alone: whoever knew the old password may have made one.

    Raises
    ------
    WeakPasswordError
        The new password is easily guessed.
    """
    user.password_hash = hash_password(password, user.login)
    end_sessions(session, user, keep=keep_session)
    if ends_tokens:
        session.execute(
            update(ApiToken)
            .where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
            .values(revoked_at=now)
        )
    _journal(session, actor, "user.password_changed", user, now, tokens_ended=ends_tokens)


def change_user(
    session: Session, user: UserAccount, *, role: str, is_active: bool, actor: str, now: float
) -> None:
    """Change role and whether the user may sign in; open sessions end when either changes.

    Raises
    ------
    InputError
        There is no such role, or it is the last administrator.
    """
    if (user.role, user.is_active) == (_role(role), is_active):
        return
    others = session.scalar(
        select(func.count())
        .select_from(UserAccount)
        .where(
            UserAccount.role == "administrator",
            UserAccount.is_active,
            UserAccount.id != user.id,
        )
    )
    if user.role == "administrator" and not others and not (is_active and role == user.role):
        raise InputError("This is the last administrator; make another one first.")
    user.role, user.is_active = _role(role), is_active
    end_sessions(session, user)
    _journal(session, actor, "user.changed", user, now, role=role, active=is_active)


def end_sessions(session: Session, user: UserAccount, *, keep: str | None = None) -> None:
    """Sign a user out everywhere, but for one session."""
    session.execute(
        delete(LoginSession).where(LoginSession.user_id == user.id, LoginSession.id != (keep or ""))
    )


def _role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise InputError(f"There is no such role; known: {', '.join(ROLES)}.")


def _journal(
    session: Session, actor: str, action: str, user: UserAccount, now: float, **detail: Any
) -> None:
    record(
        session, actor=actor, action=action, subject=f"user:{user.login}", detail=detail, now=now
    )
