"""Secrets in settings: written as they are, or as ``file:/run/secrets/name``.

A secret in a file is in no environment that a crash report or ``docker inspect`` shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, SecretStr

SCHEME = "file:"
LONGEST_BYTES = 4096


def _read(value: Any) -> Any:
    """Return what the named file holds, without the line end that editors add."""
    if not isinstance(value, str) or not value.startswith(SCHEME):
        return value
    path = Path(unquote(urlsplit(value).path))
    try:
        with path.open(encoding="utf-8") as file:
            secret = file.read(LONGEST_BYTES).rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}; check path and owner") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; write the secret as one line") from None
    if not secret:
        raise ValueError(f"{path} is empty; write the secret into it")
    return secret


Secret = Annotated[SecretStr, BeforeValidator(_read)]
"""A text that no log shows."""
