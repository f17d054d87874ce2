"""A worker that kills itself (SIGKILL) once, at a chosen moment; later starts are ordinary.

``python -m tests.reliability.killing_worker MOMENT MARKER --config FILE worker``: the moment is a
key of :data:`MOMENTS`, the marker a file that tells that it has happened. The product has no hook
for this: the functions are replaced here, in this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

import pacsight.dispatcher
import pacsight.engine
import pacsight.stages
import pacsight.stages.deliver
import pacsight.stages.encode
import pacsight.stages.predict
from ledger.database import reading
from ledger.tables import ReceivedObject
from pacsight.cli import main
from pacsight.work import Stage

Function = Callable[..., Any]
ALWAYS = "before predict, every time"
MOMENTS: dict[str, tuple[Any, str, str]] = {
    "before indexing": (pacsight.dispatcher, "index_received", "before"),
    "after indexing": (pacsight.dispatcher, "index_received", "after"),
    "after completion": (pacsight.dispatcher, "close_complete_studies", "after"),
    "after a job is handed over": (pacsight.engine.DurableEngine, "submit", "after"),
    "before route": (pacsight.stages.STAGES, Stage.ROUTE, "before"),
    "after route": (pacsight.stages.STAGES, Stage.ROUTE, "after"),
    "before predict": (pacsight.stages.STAGES, Stage.PREDICT, "before"),
    ALWAYS: (pacsight.stages.STAGES, Stage.PREDICT, "always"),
    "between heatmap and row": (pacsight.stages.predict, "write_durably", "after"),
    "after predict": (pacsight.stages.STAGES, Stage.PREDICT, "after"),
    "before encode": (pacsight.stages.STAGES, Stage.ENCODE, "before"),
    "between result files": (pacsight.stages.encode, "write_durably", "after"),
    "before the outbox": (pacsight.stages.encode, "_fill_outbox", "before"),
    "after encode": (pacsight.stages.STAGES, Stage.ENCODE, "after"),
    "before deliver": (pacsight.stages.STAGES, Stage.DELIVER, "before"),
    "after sending, before it is noted": (pacsight.stages.deliver, "send", "after"),
    "after deliver": (pacsight.stages.STAGES, Stage.DELIVER, "after"),
}


def deadly(function: Function, when: str, marker: Path) -> Function:
    """Return `function` that kills this process before or after it did something, once."""
    is_poll = function.__name__ in {"index_received", "close_complete_studies"}

    def replacement(*args: Any, **kwargs: Any) -> Any:
        if when == "always":
            os.kill(os.getpid(), signal.SIGKILL)
        if when == "before" and (not is_poll or _has_objects(args[0])):
            die_once(marker)
        result = function(*args, **kwargs)
        if when == "after" and (not is_poll or result):
            die_once(marker)
        return result

    return replacement


def die_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _has_objects(database: Engine) -> bool:
    with reading(database) as session:
        query = select(func.count()).where(ReceivedObject.state == "received")
        return bool(session.scalar(query))


if __name__ == "__main__":
    moment, marker = sys.argv.pop(1), Path(sys.argv.pop(1))
    owner, name, when = MOMENTS[moment]
    if isinstance(owner, dict):
        owner[name] = deadly(owner[name], when, marker)
    else:
        setattr(owner, name, deadly(getattr(owner, name), when, marker))
    main()
