"""Requests whose data set can't be parsed are answered as such, wherever that is found out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from pydicom import Dataset

from ledger.broken import BROKEN_DATA
from ledger.errors import UnreadableError

LOGGER = logging.getLogger(__name__)
PROCESSING_FAILURE = 0x0110  # PS3.7 section C.5.1
_BROKEN = (*BROKEN_DATA, OSError, UnreadableError)

Handler: TypeAlias = Callable[[Any], tuple[int, Dataset | None]]


def readable(handler: Handler) -> Handler:
    """Return a handler of pynetdicom's that answers what `handler` can't read.

    A data set is parsed in steps, its sequences when they are looked at.
    """

    def answer(event: Any) -> tuple[int, Dataset | None]:
        try:
            return handler(event)
        except _BROKEN as error:
            LOGGER.warning("a data set can't be parsed: %s", type(error).__name__)
            return PROCESSING_FAILURE, None

    return answer
