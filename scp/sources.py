"""Asking sources what they hold, off the hot path: an answer is there when it is there."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from ledger.errors import PacsightError
from scp.config import Source
from scp.counts import SourceAnswer, SourceSeries

logger = logging.getLogger(__name__)

ASK_AGAIN_S = 10.0
"""after this long, and when another number of instances is here than at the last question"""
LEAST_PAUSE_S = 0.5
"""between two questions about a study"""
THREADS = 2
REMEMBERED = 1000
"""studies of a source"""

Ask: TypeAlias = Callable[[Source, str], tuple[SourceSeries, ...] | None]
"""asks a source for the series of a study; None when it doesn't tell"""


@dataclass(slots=True)
class _Known:
    held: int = -1
    asked_at: float = float("-inf")
    is_asking: bool = False
    answer: SourceAnswer | None = None


class Sources:
    """Keeps answers, and has a few threads that fetch them.

    Parameters
    ----------
    sources
        Of the settings.
    ask
        Speaks to a source, within a bounded time.
    """

    def __init__(
        self, sources: Sequence[Source], ask: Ask, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sources = {source.ae_title: source for source in sources}
        self._ask = ask
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="source")

    def look(
        self, study_instance_uid: str, calling_ae_titles: Collection[str], held: int
    ) -> list[SourceAnswer]:
        """See :class:`scp.evidence.SourceBoard`."""
        senders = [self._sources[one] for one in calling_ae_titles if one in self._sources]
        answers = [self._look(source, study_instance_uid, held) for source in senders]
        return [answer for answer in answers if answer is not None]

    def _look(self, source: Source, uid: str, held: int) -> SourceAnswer | None:
        with self._lock:
            known = self._known.setdefault((source.ae_title, uid), _Known())
            self._known.move_to_end((source.ae_title, uid))
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            age = self._clock() - known.asked_at
            is_due = age >= ASK_AGAIN_S or (known.held != held and age >= LEAST_PAUSE_S)
            if is_due and not known.is_asking:
                known.is_asking, known.held = True, held
                self._threads.submit(self._fetch, source, uid, known)
            return known.answer

    def stop(self) -> None:
        """Ask no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, source: Source, uid: str, known: _Known) -> None:
        series: tuple[SourceSeries, ...] | None = None
        try:
            series = self._ask(source, uid)
        except PacsightError as error:  # that it is asked can't be written down
            logger.warning("source %s is not asked: %s: %s", source.ae_title, error.code, error)
        finally:
            with self._lock:
                known.is_asking, known.asked_at = False, self._clock()
                known.answer = SourceAnswer(series, source.sends_whole_studies) if series else None
        logger.info("source %s %s", source.ae_title, "answered" if series else "does not tell")
