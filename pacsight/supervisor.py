"""``pacsight serve``: the roles as child processes, started again when they die.

Reception and inference are separate processes, so that a crash or memory shortage of a network
can't stop reception. A role that has run well once is started again for ever; one that never did,
and doesn't ask for patience, has a fault that only people can mend.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pacsight.errors import NeverRanError
from pacsight.reporting import TRY_LATER

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
HEALTHY_AFTER_S = 30.0
HOPELESS_AFTER = 8
"""Failed starts, which take half a minute: longer than a predecessor needs to end."""
STOP_PATIENCE_S = 15.0
LOOK_S = 0.1


@dataclass(slots=True)
class Role:
    """One child: its command line, and how it has done so far."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = field(default=FIRST_PAUSE_S)
    start_again_at: float = 0.0
    has_run_well: bool = False
    failed_starts: int = 0


def supervise(roles: Sequence[Role], stop: threading.Event) -> None:
    """Keep every role running until `stop` is set, then end them in the given order.

    A child's standard input is a pipe from here: when this process dies, however it dies, the
    children read its end and stop as well, so that nobody holds ports and locks.

    Raises
    ------
    NeverRanError
        A role ended by itself at each of its first starts.
    """
    try:
        while not stop.is_set():
            for role in roles:
                _look_after(role, time.monotonic())
            stop.wait(LOOK_S)
    finally:
        for role in roles:
            _end(role)


def _look_after(role: Role, now: float) -> None:
    if role.process is None:
        if now >= role.start_again_at:
            role.process = subprocess.Popen(role.command, stdin=subprocess.PIPE)
            role.started_at = now
        return
    status = role.process.poll()
    if status is None:
        return
    if now - role.started_at > HEALTHY_AFTER_S:
        role.pause_s, role.has_run_well = FIRST_PAUSE_S, True
    _close_pipe(role.process)
    role.process, role.start_again_at = None, now + role.pause_s
    if status > 0 and status != TRY_LATER:  # neither killed or told to, nor waiting for others
        role.failed_starts += 1
    if role.failed_starts >= HOPELESS_AFTER and not role.has_run_well:
        raise NeverRanError(
            f"{role.name} ended by itself at each of its first {role.failed_starts} starts; "
            "correct what it says above, and start again."
        )
    logger.warning("%s ended with status %d; starting again", role.name, status)
    role.pause_s = min(role.pause_s * 2, LONGEST_PAUSE_S)


def _end(role: Role) -> None:
    if role.process is None:
        return
    role.process.send_signal(signal.SIGTERM)
    try:
        role.process.wait(STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        logger.warning("%s did not stop in time; killed", role.name)
        role.process.kill()
        role.process.wait()
    _close_pipe(role.process)


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def stop_on_signals(*, supervised: bool = False) -> threading.Event:
    """Return an event that SIGTERM, SIGINT or (if `supervised`) the supervisor's death sets."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if supervised:

        def watch() -> None:
            while os.read(sys.stdin.fileno(), 64):  # b"" at end of file only
                pass
            stop.set()

        threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
    return stop
