"""A worker of a later release: another version, other workflows beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dbos import DBOS

import pacsight
import pacsight.engine
import pacsight.heartbeat
from pacsight.cli import main
from pacsight.work import Work

VERSION = "99.0"

_register = pacsight.engine.DurableEngine._register


def _register_more(
    self: pacsight.engine.DurableEngine, perform: Callable[[Work], Sequence[Work]]
) -> None:
    """Change what the engine's default version, a hash of all workflows, is made of."""
    _register(self, perform)

    @DBOS.workflow(name="of the next release")
    def workflow() -> None:
        return None


if __name__ == "__main__":
    pacsight.engine.DurableEngine._register = _register_more  # type: ignore[method-assign]  # a test
    pacsight.heartbeat.__version__ = VERSION
    main()
