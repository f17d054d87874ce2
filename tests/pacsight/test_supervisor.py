"""The supervisor with real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pacsight import supervisor
from pacsight.errors import NeverRanError
from pacsight.reporting import TRY_LATER
from pacsight.supervisor import HOPELESS_AFTER, Role, supervise
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


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)


def _ending(log: Path, how: str) -> Role:
    return Role(log.name, ["/bin/sh", "-c", f"echo $$ >> {log}; {how}"], pause_s=0.01)


@pytest.mark.usefixtures("hurried")
def test_role_that_never_ran_ends_the_service_with_one_sentence(tmp_path: Path) -> None:
    other = tmp_path / "other"
    roles = [_ending(tmp_path / "web", "exit 2"), _role(other)]
    with pytest.raises(NeverRanError, match="web ended by itself at each of its first 8 starts;"):
        supervise(roles, threading.Event())
    assert len(_starts(tmp_path / "web")) == HOPELESS_AFTER
    assert not any(Path(f"/proc/{one}").exists() for one in _starts(other))


@pytest.mark.usefixtures("hurried")
def test_role_that_ran_or_was_killed_or_waits_for_others_is_started_for_ever(
    tmp_path: Path,
) -> None:
    once_well = _ending(tmp_path / "ran", "exit 2")
    once_well.has_run_well = True
    killed = _ending(tmp_path / "killed", "kill -9 $$")
    waiting = _ending(tmp_path / "waiting", f"exit {TRY_LATER}")
    roles, stop = [once_well, killed, waiting], threading.Event()
    thread = threading.Thread(target=supervise, args=(roles, stop))
    thread.start()
    logs = [tmp_path / role.name for role in roles]
    assert wait_until(
        lambda: all(len(_starts(log)) > HOPELESS_AFTER + 2 for log in logs) or stop.is_set(), 20
    )
    stop.set()
    thread.join()


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
