"""What roles log, to standard error: for people, or one JSON object a line.

Only our own packages may say more than warnings, for they name no patient; the libraries below them
would.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pacsight.monitoring.config import LogConfig

PACKAGES = ("pacsight", "scp", "inference", "dicom_out", "ledger", "training", "viewer_api")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_ABOUT: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never changed


def start_logging(*, verbose: bool) -> None:
    """Log warnings of all packages, and what is done (`verbose`) of ours."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=TEXT)
    # Its errors come back as our coded receipts and events; alone they only alarm.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.ERROR)  # it warns with values: PHI
    if verbose:
        _set_level(logging.INFO)


def apply_log_settings(config: LogConfig, role: str) -> None:
    """Log as the settings say; ``--verbose`` stays at least what it is."""
    wanted = logging.getLevelNamesMapping()[config.level.upper()]
    current = logging.getLogger(PACKAGES[0]).getEffectiveLevel()
    if current == logging.WARNING or wanted < current:
        _set_level(wanted)
    if config.format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter(role))


@contextmanager
def log_about(**values: Any) -> Iterator[None]:
    """Add fields to everything that is logged inside, in JSON: ids, never a patient's data."""
    token = _ABOUT.set({**_ABOUT.get(), **values})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, role, message, and what :func:`log_about` added."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception its type alone, for its message may hold anything."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "role": self._role,
            "message": record.getMessage(),
            **_ABOUT.get(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


def _set_level(level: int) -> None:
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)
