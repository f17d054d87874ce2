"""Who did what lately, so that a viewer's thousand requests for a study are one event."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

WINDOW_S = 900.0
"""Requests so close together are one access."""
MAX_KEPT = 100_000


class RecentAccesses:
    """Remembers accesses of this process. Safe for threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def noting(self, actor: str, action: str, subject: str, now: float) -> Iterator[bool]:
        """Tell whether somebody begins to do something now, so that it has to be written down.

        If that raises an error, the next time counts as the beginning.

        Parameters
        ----------
        now
            Seconds since 1970 UTC.
        """
        key = (actor, action, subject)
        is_new = self._is_new(key, now)
        try:
            yield is_new
        except BaseException:
            if is_new:
                with self._lock:
                    self._seen.pop(key, None)
            raise

    def _is_new(self, key: tuple[str, str, str], now: float) -> bool:
        with self._lock:
            last = self._seen.pop(key, None)
            is_new = last is None or now - last > WINDOW_S
            self._seen[key] = now if is_new or last is None else last
            if len(self._seen) > MAX_KEPT:
                self._seen.popitem(last=False)
        return is_new
