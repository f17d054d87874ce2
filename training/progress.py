"""How long work tells how far it is; the command line draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """Receives what is going on."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Callable[[], None]]:
        """Begin a stage of `total` steps; the returned context gives the call for each step."""

    def say(self, text: str) -> None:
        """Pass on one line for people."""


class Silent:
    """A :class:`Progress` that tells nobody."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Callable[[], None]]:
        """Begin a stage; nothing is shown."""
        del name, total
        yield lambda: None

    def say(self, text: str) -> None:
        """Drop the line."""
