"""Sessions and API tokens: random secrets outside, their digests in the ledger."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ledger.events import record
from ledger.web_tables import ApiToken, LoginSession, UserAccount
from viewer_api.accounts import ROLES
from viewer_api.config import WebConfig
from viewer_api.errors import InputError
from viewer_api.roles import PERMISSIONS, Permission, Principal

TOKEN_PREFIX = "pacsight_"  # noqa: S105 - what secret scanners look for, no secret
TOUCH_S = 60.0
"""The last use of a session or token is written no more often than this."""
TOKEN_DAYS = (1, 365)


def digest(secret: str) -> str:
    """Return what is stored of a random secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def open_session(session: Session, user: UserAccount, config: WebConfig, now: float) -> str:
    """Start a session under a new name, and return the secret for the cookie."""
    secret = secrets.token_urlsafe(32)
    session.execute(delete(LoginSession).where(LoginSession.expires_at < now))
    session.add(
        LoginSession(
            id=digest(secret),
            user_id=user.id,
            csrf_token=secrets.token_urlsafe(32),
            created_at=now,
            seen_at=now,
            expires_at=now + config.session_lifetime_s,
        )
    )
    user.last_login_at = now
    return secret


def close_session(session: Session, session_id: str) -> None:
    """End one session."""
    session.execute(delete(LoginSession).where(LoginSession.id == session_id))


def find_session(
    session: Session, secret: str, config: WebConfig, now: float
) -> tuple[Principal, bool] | None:
    """Return whose living session it is, and whether its last use is to be written down."""
    row = session.execute(
        select(LoginSession, UserAccount)
        .join(UserAccount, UserAccount.id == LoginSession.user_id)
        .where(LoginSession.id == digest(secret), UserAccount.is_active)
    ).one_or_none()
    if row is None:
        return None
    login, user = row
    if now >= login.expires_at or now - login.seen_at >= config.session_idle_s:
        return None
    principal = _principal(user, frozenset(Permission), login.id, login.csrf_token)
    return principal, now - login.seen_at > TOUCH_S


def touch_session(session: Session, session_id: str, now: float) -> None:
    """Write down that a session is in use."""
    session.execute(update(LoginSession).where(LoginSession.id == session_id).values(seen_at=now))


def make_token(
    session: Session,
    owner: Principal,
    *,
    name: str,
    scopes: Iterable[str],
    days: int,
    now: float,
) -> str:
    """Make an API token and return it; it can't be read again.

    Raises
    ------
    InputError
        No name, no scope, one that the owner hasn't, or too long a life.
    """
    wanted = sorted(set(scopes))
    if not name.strip() or not wanted or not set(wanted) <= owner.permissions:
        raise InputError("A token needs a name and at least one scope that you have yourself.")
    if not TOKEN_DAYS[0] <= days <= TOKEN_DAYS[1]:
        raise InputError(f"A token lives {TOKEN_DAYS[0]} to {TOKEN_DAYS[1]} days.")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        user_id=owner.user_id,
        name=name.strip()[:64],
        digest=digest(secret),
        scopes=wanted,
        created_at=now,
        expires_at=now + days * 86400.0,
    )
    session.add(token)
    session.flush()
    _journal(session, owner, "token.made", token, now)
    return secret


def revoke_token(session: Session, owner: Principal, token_id: int, now: float) -> None:
    """End a token of one's own; does nothing to those of others."""
    token = session.get(ApiToken, token_id)
    if token is not None and token.user_id == owner.user_id and token.revoked_at is None:
        token.revoked_at = now
        _journal(session, owner, "token.revoked", token, now)


def list_tokens(session: Session, user_id: int) -> list[ApiToken]:
    """Return a user's tokens, newest first."""
    query = select(ApiToken).where(ApiToken.user_id == user_id).order_by(ApiToken.id.desc())
    return list(session.scalars(query))


def find_token(session: Session, secret: str, now: float) -> tuple[Principal, bool] | None:
    """Return who a token speaks for, and whether its last use is to be written down.

    Its scopes count only as far as the owner's role goes.
    """
    row = session.execute(
        select(ApiToken, UserAccount)
        .join(UserAccount, UserAccount.id == ApiToken.user_id)
        .where(ApiToken.digest == digest(secret), UserAccount.is_active)
    ).one_or_none()
    if row is None or row[0].revoked_at is not None or now >= row[0].expires_at:
        return None
    token, user = row
    scopes = frozenset(Permission(scope) for scope in token.scopes)
    is_stale = token.last_used_at is None or now - token.last_used_at > TOUCH_S
    return _principal(user, scopes, None, None), is_stale


def touch_token(session: Session, secret: str, now: float) -> None:
    """Write down that a token is in use."""
    session.execute(
        update(ApiToken).where(ApiToken.digest == digest(secret)).values(last_used_at=now)
    )


def _principal(
    user: UserAccount,
    scopes: frozenset[Permission],
    session_id: str | None,
    csrf_token: str | None,
) -> Principal:
    role = next(role for role in ROLES if role == user.role)
    permissions = scopes & PERMISSIONS[role]
    return Principal(user.id, user.login, user.name, role, permissions, session_id, csrf_token)


def _journal(session: Session, owner: Principal, action: str, token: ApiToken, now: float) -> None:
    detail = {"name": token.name, "scopes": token.scopes}
    subject = f"token:{token.id}"
    record(session, actor=owner.login, action=action, subject=subject, detail=detail, now=now)
