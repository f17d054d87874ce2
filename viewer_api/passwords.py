"""Passwords: argon2id, and the few rules that help."""

from __future__ import annotations

from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from viewer_api.errors import WeakPasswordError

MIN_LENGTH = 10
MAX_LENGTH = 256
"""Longer ones only cost time."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's minimum


def hash_password(password: str, login: str) -> str:
    """Return the argon2id hash.

    Raises
    ------
    WeakPasswordError
        Too short, too long, of one character, or the login itself.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise WeakPasswordError(
            f"The password must have {MIN_LENGTH} to {MAX_LENGTH} characters; choose another."
        )
    if len(set(password)) < 4 or login.casefold() in password.casefold():
        raise WeakPasswordError("The password is easily guessed; choose another.")
    return _HASHER.hash(password)


def is_password(password: str, hashed: str | None) -> bool:
    """Tell whether it is the password of that hash; without one it takes as long and says no."""
    is_known = hashed is not None
    try:
        return _HASHER.verify(hashed or _nobodys(), password[: MAX_LENGTH + 1]) and is_known
    except (VerificationError, InvalidHashError):
        return False


@lru_cache(maxsize=1)
def _nobodys() -> str:
    """Return a hash to check against where there is no user, so that time tells nothing."""
    return _HASHER.hash("nobody has this password")
