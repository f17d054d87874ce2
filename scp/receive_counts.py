"""What a receiver has done since it started, for whoever measures it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

REMEMBERED = 50


@dataclass(slots=True)
class ReceiveCounts:
    """Totals; safe for use by many threads."""

    objects: int = 0
    """answered with Success"""
    size: int = 0
    """bytes of their data sets with file meta"""
    seconds: float = 0.0
    """from their requests to their answers, all together"""
    refused: Counter[int] = field(default_factory=Counter)
    """C-STORE requests by the status that they got"""
    associations: Counter[str] = field(default_factory=Counter)
    """that have ended, by how: released, aborted, lost or rejected"""
    rejections: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """associations rejected since :meth:`take_rejections`: calling AE title, address, reason"""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stored(self, size: int, seconds: float) -> None:
        """Count an object that was answered with Success."""
        with self._lock:
            self.objects += 1
            self.size += size
            self.seconds += seconds

    def refuse(self, status: int) -> None:
        """Count a C-STORE that was refused."""
        with self._lock:
            self.refused[status] += 1

    def reject(self, calling_ae_title: str, address: str, reason: str) -> None:
        """Count an association that was rejected, and remember whose it was."""
        with self._lock:
            self.associations["rejected"] += 1
            key = (calling_ae_title, address, reason)
            if key not in self.rejections and len(self.rejections) >= REMEMBERED:
                key = ("", "", "others")  # somebody tries many names
            self.rejections[key] += 1

    def take_rejections(self) -> Counter[tuple[str, str, str]]:
        """Return who was rejected since the last call."""
        with self._lock:
            taken, self.rejections = self.rejections, Counter()
            return taken

    def end(self, outcome: str) -> None:
        """Count an association that has ended."""
        with self._lock:
            self.associations[outcome] += 1
