"""What all peers share: whether they are here, a free port, start, wait, stop."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

PORTS = range(20000, 32000)  # below the ports that Linux gives to outgoing connections
EXTRA_PATH = ("/usr/sbin", "/usr/local/sbin")  # Debian's Orthanc lives there, not always in PATH


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def missing(what: str) -> None:
    """The one rule: a missing peer skips with a reason, and fails where CI says it must be here."""
    message = f"{what} is not installed; tools/install-peers.sh installs the peers on Debian"
    if in_ci():
        pytest.fail(message)
    pytest.skip(message)


def program(name: str, *folders: Path) -> str:
    """Return the path of a program, or skip or fail the test."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *EXTRA_PATH, *map(str, folders)])
    found = shutil.which(name, path=path)
    if found is None:
        missing(name)
    assert found is not None
    return found


_held_ports: list[int] = []  # descriptors of locked files; the locks end with this process


def free_port() -> int:
    """Return a TCP port that nothing listens on, and no other test process was given."""
    folder = Path(tempfile.gettempdir()) / "pacsight-test-ports"
    folder.mkdir(exist_ok=True)
    for port in random.sample(PORTS, 200):
        descriptor = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            os.close(descriptor)
            continue
        _held_ports.append(descriptor)
        return port
    raise RuntimeError("no free port")


def wait_until(
    condition: Callable[[], Any], what: str, *, timeout_s: float = 30.0, every_s: float = 0.02
) -> Any:
    """Poll until `condition` is true and return its value; fail the test at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(every_s)
    return value


class Process:
    """A peer in the background; it ends with the test run even if that is killed."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._stop_signal = stop_signal
        self._env = {**os.environ, "TCP_NODELAY": "1", **(env or {})}
        self._command = [*_guard(stop_signal, user), *map(str, command)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, is_ready: Callable[[], Any], *, timeout_s: float = 30.0) -> None:
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

        def ready_or_dead() -> Any:
            if process.poll() is not None:
                pytest.fail(
                    f"{self._command} ended: {self.log.read_text(errors='replace')[-2000:]}"
                )
            return is_ready()

        try:
            wait_until(ready_or_dead, f"start of {self._command[-1]}", timeout_s=timeout_s)
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, *, timeout_s: float = 15.0) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()


def _guard(stop_signal: signal.Signals, user: str | None) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if user is not None:
            missing("setpriv (util-linux)")
        return []
    command = [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG")]
    if user is not None:
        command += ["--reuid", user, "--regid", user, "--init-groups"]
    return [*command, "--"]
