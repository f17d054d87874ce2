"""The durable engine: chains, idempotent keys, and what survives SIGKILL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys, threading, time
from pathlib import Path
from dbos import DBOS
from pacsight.engine import DurableEngine
from pacsight.errors import OperationError
from pacsight.waiting import wait_until
from pacsight.work import Stage, Work
from ledger.errors import LedgerError

url, log, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
NEXT = {Stage.ROUTE: Stage.PREDICT, Stage.PREDICT: Stage.ENCODE}

def note(text):
    with log.open("a") as file:
        file.write(text + "\\n")
        file.flush()
        os.fsync(file.fileno())

def perform(work):
    note(work.key)
    if mode == f"die in {work.stage}":
        os.kill(os.getpid(), 9)
    if mode == "locked once" and log.read_text().count(work.key) == 1:
        raise LedgerError("locked")
    if mode == "always broken":
        raise OperationError("no")
    following = NEXT.get(work.stage)
    return [Work(following, work.revision_id, decision_id=work.revision_id)] if following else []

engine = DurableEngine(
    url, executor_id="one", perform=perform, concurrency={"cpu": 2, "predict": 1}
)
engine.start()

def states():
    return sorted(one.status for one in DBOS.list_workflows())

if mode == "plain":
    engine.submit(Work(Stage.DELIVER, 1, 1, "pacs", 1))  # nobody serves its queue
if "resume" not in mode:
    engine.submit(Work(Stage.ROUTE, 1))
    engine.submit(Work(Stage.ROUTE, 1))
end = "route:1" if mode == "always broken" else "encode:1"
done = wait_until(
    lambda: (log.exists() and log.read_text().splitlines().count(end) >= 1
             and not (mode == "locked once" and log.read_text().count(end) < 2)), 30
)
if mode == "plain":
    done = wait_until(lambda: states() == ["ENQUEUED"] + ["SUCCESS"] * 3, 20)
    kept = engine.forget(time.time() - 60) == 0 and len(states()) == 4
    done = done and kept and engine.forget(time.time() + 1) == 3 and states() == ["ENQUEUED"]
if mode == "always broken":
    done = wait_until(lambda: engine.ended_without_result(["route:1"]) == {"route:1": "ERROR"}, 20)
engine.stop()
sys.exit(0 if done else 1)
"""


def _run(url: str, log: Path, mode: str) -> int:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, url, str(log), mode], check=False
    ).returncode


def test_chain_runs_once_though_submitted_twice_and_is_forgotten_when_old(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    assert _run(database_url, log, "plain") == 0
    assert log.read_text().splitlines() == ["route:1", "predict:1", "encode:1"]


def test_killed_step_runs_again_and_finished_steps_do_not(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    assert _run(database_url, log, "die in predict") == -9
    assert _run(database_url, log, "resume") == 0
    assert log.read_text().splitlines() == ["route:1", "predict:1", "predict:1", "encode:1"]


def test_retryable_error_is_tried_again(sqlite_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _run(sqlite_url, log, "locked once") == 0
    assert log.read_text().splitlines()[:2] == ["route:1", "route:1"]


def test_error_that_is_not_retryable_ends_the_work_visibly(sqlite_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _run(sqlite_url, log, "always broken") == 0
    assert log.read_text().splitlines() == ["route:1"]


QUEUE = """
import sys, threading
from pathlib import Path
from pacsight.engine import DurableEngine
from pacsight.waiting import wait_until
from pacsight.work import Stage, Work

url, log = sys.argv[1], Path(sys.argv[2])
lock = threading.Lock()

def perform(work):
    with lock, log.open("a") as file:
        file.write(work.key + "\\n")
    if work.stage is Stage.ROUTE:
        return [Work(Stage.PREDICT, work.revision_id, work.revision_id, is_stat=work.is_stat)]
    return []

def engine(*queues):
    made = DurableEngine(
        url, executor_id="one", perform=perform, concurrency=dict.fromkeys(queues, 1)
    )
    made.start()
    return made

# Routine work waits in both queues before the urgent comes; nobody serves them yet.
first = engine("cpu")
for number in range(1, 7):
    first.submit(Work(Stage.DELIVER, number, number, "pacs", 1))
    first.submit(Work(Stage.ROUTE, number))
first.submit(Work(Stage.DELIVER, 7, 7, "pacs", 1, is_stat=True))
first.submit(Work(Stage.ROUTE, 7, is_stat=True))
wait_until(lambda: log.exists() and log.read_text().count("route") == 7, 60)
first.stop()
second = engine("predict", "deliver")
wait_until(lambda: len(log.read_text().splitlines()) == 21, 60)
second.stop()
"""


def test_urgent_work_overtakes_routine_work_that_waits(sqlite_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", QUEUE, sqlite_url, str(log)], check=True)
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 21
    for stage in ("predict", "deliver"):
        order = [line for line in lines if line.startswith(stage)]
        assert order[0] in (f"{stage}:7", f"{stage}:7:pacs:1"), order
