"""Waiting for something that another process does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], timeout_s: float, look_s: float = 0.1) -> bool:
    """Look every `look_s` seconds until `condition` holds; tell whether it did in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_s)
    return True


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections on that port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
