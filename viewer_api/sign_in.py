"""Signing in with a password: slow for guessers, silent about who exists."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.events import record
from ledger.web_tables import LoginFailure, UserAccount
from viewer_api.config import WebConfig
from viewer_api.errors import SignInFailedError, TooManyAttemptsError
from viewer_api.passwords import is_password
from viewer_api.sessions import digest, open_session

LONGEST_LOCK_S = 3600.0
FORGET_AFTER_S = 86400.0
ATTEMPTS_A_MINUTE = 30
"""Of one address, on whatever login."""
_ADDRESSES = 10_000
FAILED = (
    "Login or password is wrong, or there were too many wrong ones; try again, later if need be."
)


class AddressLimit:
    """Counts attempts of each address within a minute, in this process."""

    def __init__(self, a_minute: int = ATTEMPTS_A_MINUTE) -> None:
        self._a_minute = a_minute
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, address: str) -> None:
        """Count one attempt.

        Raises
        ------
        TooManyAttemptsError
            There were too many of late.
        """
        now = time.monotonic()
        with self._lock:
            since, attempts = self._seen.pop(address, (now, 0))
            if now - since > 60.0:
                since, attempts = now, 0
            self._seen[address] = since, attempts + 1
            if len(self._seen) > _ADDRESSES:
                self._seen.popitem(last=False)
        if attempts >= self._a_minute:
            raise TooManyAttemptsError("Too many attempts from this address; wait a minute.")


def sign_in(database: Engine, config: WebConfig, login: str, password: str, now: float) -> str:
    """Return the secret of a new session.

    A login that nobody has is treated as one that somebody has: the same work, the same lock.

    Raises
    ------
    SignInFailedError
        Login or password is wrong, or the login is locked.
    """
    login = login.strip().casefold()
    key = digest(login)
    with reading(database) as session:
        failure = session.get(LoginFailure, key)
        user = session.scalar(
            select(UserAccount).where(UserAccount.login == login, UserAccount.is_active)
        )
    is_locked = failure is not None and failure.locked_until > now
    is_right = is_password(password, user.password_hash if user else None)
    if user is None or is_locked or not is_right:
        _count_failure(database, config, key, user, now, is_locked=is_locked)
        raise SignInFailedError(FAILED)
    with transaction(database) as session:
        session.execute(delete(LoginFailure).where(LoginFailure.id == key))
        secret = open_session(session, session.get_one(UserAccount, user.id), config, now)
        _journal(session, "web.signed_in", login, now)
    return secret


def _count_failure(
    database: Engine,
    config: WebConfig,
    key: str,
    user: UserAccount | None,
    now: float,
    *,
    is_locked: bool,
) -> None:
    """Count a wrong password; while the lock holds nothing counts, so nobody is locked for ever."""
    with transaction(database) as session:
        if not is_locked:
            session.execute(delete(LoginFailure).where(LoginFailure.last_at < now - FORGET_AFTER_S))
            known = session.get(LoginFailure, key, with_for_update=True)
            row = known or LoginFailure(id=key, count=0, locked_until=0.0)
            row.count, row.last_at = row.count + 1, now
            beyond = row.count - config.login_attempts
            if beyond >= 0:
                row.locked_until = now + min(config.lock_s * 2.0 ** min(beyond, 30), LONGEST_LOCK_S)
            session.add(row)
        # What was typed as a login may be a password: only known logins are written down.
        _journal(session, "web.sign_in_failed", user.login if user else "unknown", now)


def _journal(session: Session, action: str, login: str, now: float) -> None:
    record(session, actor=login, action=action, subject=f"user:{login}", detail={}, now=now)
