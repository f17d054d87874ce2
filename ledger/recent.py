"""Who did what lately, so that a viewer's thousand requests for a study are one event."""

from __future__ import annotations

import threading
from collections import OrderedDict

WINDOW_S = 900.0
"""Requests so close together are one access."""
MAX_KEPT = 100_000


class RecentAccesses:
    """Remembers accesses of this process. Safe for threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def is_new(self, actor: str, action: str, subject: str, now: float) -> bool:
        """Tell whether somebody begins to do something now, `now` in seconds since 1970 UTC."""
        key = (actor, action, subject)
        with self._lock:
            last = self._seen.pop(key, None)
            is_new = last is None or now - last > WINDOW_S
            self._seen[key] = now if is_new or last is None else last
            if len(self._seen) > MAX_KEPT:
                self._seen.popitem(last=False)
        return is_new
