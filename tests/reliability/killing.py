"""A process of Pacsight that kills itself (SIGKILL) once, at a chosen moment.

``python -m tests.reliability.killing MOMENT MARKER --config FILE worker``: the moment is a key of
:data:`WORKER` or :data:`LISTENER`, the marker a file that tells that it has happened; later starts
with the same marker are ordinary. The product has no hook for this: the functions are replaced
here, in this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

import ledger.store
import pacsight.commands.serve
import pacsight.dispatcher
import pacsight.engine
import pacsight.receiver_process
import pacsight.stages
import pacsight.stages.deliver
import pacsight.stages.encode
import scp.group_commit
import scp.ledger_writer
import scp.spool
import scp.upper_layer
from ledger.database import reading
from ledger.tables import ReceivedObject
from pacsight.cli import main
from pacsight.work import Stage

Function = Callable[..., Any]
Moments = dict[str, tuple[Any, str, str]]
ALWAYS = "before predict, every time"
WORKER: Moments = {
    "before indexing": (pacsight.dispatcher, "index_received", "before"),
    "after indexing": (pacsight.dispatcher, "index_received", "after"),
    "after completion": (pacsight.dispatcher, "close_complete_studies", "after"),
    "before a job is handed over": (pacsight.engine.DurableEngine, "submit", "before"),
    "after a job is handed over": (pacsight.engine.DurableEngine, "submit", "after"),
    "before route": (pacsight.stages.STAGES, Stage.ROUTE, "before"),
    "after route": (pacsight.stages.STAGES, Stage.ROUTE, "after"),
    "before predict": (pacsight.stages.STAGES, Stage.PREDICT, "before"),
    "between heatmap and row": (ledger.store.FolderStore, "put", "after artifacts"),
    "after predict": (pacsight.stages.STAGES, Stage.PREDICT, "after"),
    "before encode": (pacsight.stages.STAGES, Stage.ENCODE, "before"),
    "between result files": (ledger.store.FolderStore, "put", "after results"),
    "before the outbox": (pacsight.stages.encode, "_fill_outbox", "before"),
    "after encode": (pacsight.stages.STAGES, Stage.ENCODE, "after"),
    "before deliver": (pacsight.stages.STAGES, Stage.DELIVER, "before"),
    "after sending, before it is noted": (pacsight.stages.deliver, "send", "after"),
    "after deliver": (pacsight.stages.STAGES, Stage.DELIVER, "after"),
}
LISTENER: Moments = {
    "in the middle of an object": (scp.upper_layer.Reception, "read_from", "before"),
    "before the sync": (scp.spool.ObjectWriter, "seal", "before"),
    "after the sync, before the row": (scp.spool.ObjectWriter, "seal", "after"),
    "after the row, before its commit": (scp.ledger_writer.LedgerWriter, "_begin", "after"),
    "after the commit, before Success": (scp.group_commit.GroupCommit, "store", "after"),
    "after Success": (scp.upper_layer.StoreDUL, "_finish_store", "after"),
    "before the end of an association": (
        scp.ledger_writer.LedgerWriter,
        "close_associations",
        "before",
    ),
}
EVERY_TIME: Moments = {ALWAYS: (pacsight.stages.STAGES, Stage.PREDICT, "always")}
MOMENTS = WORKER | LISTENER | EVERY_TIME
POLLS = {"index_received", "close_complete_studies"}
"""called again and again; only a call that finds something to do counts"""


def deadly(function: Function, when: str, marker: Path) -> Function:
    """Return `function` that kills this process before or after it did something, once."""
    is_poll = function.__name__ in POLLS

    def replacement(*args: Any, **kwargs: Any) -> Any:
        if when == "always":
            os.kill(os.getpid(), signal.SIGKILL)
        if when == "before" and (not is_poll or _has_objects(args[0])):
            die_once(marker)
        result = function(*args, **kwargs)
        if when.startswith("after ") and args[1].startswith(when.removeprefix("after ")):
            die_once(marker)
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


def receive_here(name: str | None, *, verbose: bool, supervised: bool) -> None:
    """Stand in for `become_receiver`: a new program would not have the replacements."""
    del supervised
    pacsight.receiver_process.main(name or "", *["--verbose"] * verbose)


if __name__ == "__main__":
    moment, marker = sys.argv.pop(1), Path(sys.argv.pop(1))
    owner, name, when = MOMENTS[moment]
    if when == "always":
        pacsight.stages.STARTS_OF_A_JOB = 3  # or the test takes long
    if isinstance(owner, dict):
        owner[name] = deadly(owner[name], when, marker)
    else:
        setattr(owner, name, deadly(getattr(owner, name), when, marker))
    pacsight.commands.serve.become_receiver = receive_here
    main()
