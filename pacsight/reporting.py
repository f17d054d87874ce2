"""How a process of Pacsight ends on a reported error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import PacsightError
from pacsight.errors import SettingsError

FAILED, WRONG_USAGE, TRY_LATER = 1, 2, 75
"""Exit statuses; the last is EX_TEMPFAIL of sysexits.h: the same may go well later."""


@contextmanager
def reported() -> Iterator[None]:
    """End on a reported error with one line, its code and its sentence, and a status of its own."""
    try:
        yield
    except PacsightError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        if isinstance(error, SettingsError):
            sys.exit(WRONG_USAGE)
        sys.exit(TRY_LATER if error.retryable else FAILED)
