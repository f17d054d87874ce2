"""The supervisor with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from pacsight.supervisor import Role, supervise
from pacsight.waiting import wait_until

CHILD = """
import os, sys, signal
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with Path(sys.argv[1]).open("a") as log:
    log.write(f"{os.getpid()}\\n")
while os.read(0, 64):
    pass
Path(sys.argv[1] + ".orphaned").touch()
"""


def _role(log: Path) -> Role:
    return Role("child", [sys.executable, "-c", CHILD, str(log)])


def _starts(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_child_that_is_killed_is_started_again(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", threading.Event()
    thread = threading.Thread(target=supervise, args=([_role(log)], stop))
    thread.start()
    try:
        assert wait_until(lambda: len(_starts(log)) == 1, 20)
        os.kill(_starts(log)[0], signal.SIGKILL)
        assert wait_until(lambda: len(_starts(log)) == 2, 20)
    finally:
        stop.set()
        thread.join()
    assert not Path(f"/proc/{_starts(log)[1]}").exists()


def test_child_that_fails_at_once_is_not_started_in_a_hurry(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", threading.Event()
    command = [sys.executable, "-c", f"open({str(log)!r}, 'a').write('0\\n'); raise SystemExit(3)"]
    role = Role("failing", command)
    thread = threading.Thread(target=supervise, args=([role], stop))
    thread.start()
    assert wait_until(lambda: len(_starts(log)) == 3, 20)
    stop.set()
    thread.join()
    assert role.pause_s >= 0.8


def test_children_stop_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = (
        "import threading, sys\n"
        "from pacsight.supervisor import Role, supervise\n"
        f"supervise([Role('child', [sys.executable, '-c', {CHILD!r}, {str(log)!r}])],"
        " threading.Event())\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert wait_until(lambda: len(_starts(log)) == 1, 20)
    finally:
        supervisor.kill()
        supervisor.wait()
    assert wait_until(Path(f"{log}.orphaned").exists, 20)
