"""dcmtk's programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.peers.process import program


def dcmtk(name: str, *arguments: str | Path, timeout_s: float = 60.0, check: bool = True) -> str:
    """Run one of dcmtk's programs to its end and return what it printed."""
    done = subprocess.run(
        [program(name), *map(str, arguments)],
        env={**os.environ, "TCP_NODELAY": "1"},  # without it each C-STORE waits for a delayed ACK
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
        text=True,
        errors="replace",
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{name} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout
