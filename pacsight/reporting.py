"""How a process of Pacsight ends on a reported error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import PacsightError
from pacsight.errors import SettingsError


@contextmanager
def reported() -> Iterator[None]:
    """End on a reported error with one line, its code and its sentence, and status 1 or 2."""
    try:
        yield
    except PacsightError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        sys.exit(2 if isinstance(error, SettingsError) else 1)
