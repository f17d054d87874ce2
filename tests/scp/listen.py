"""A listener in a process of its own: ``python -m tests.scp.listen FOLDER URL key=value…``.

It prints its port and runs until it is killed. ``largest_file=N`` is a limit on file sizes, which
is what a full disk looks like to one who may not mount one.
"""

from __future__ import annotations

import logging
import resource
import signal
import sys
import threading
from pathlib import Path

from ledger.database import open_database
from scp.config import ListenerConfig
from scp.listener import Listener


def main(folder: str, url: str, *settings: str) -> None:
    logging.basicConfig(level=logging.WARNING)  # also what pynetdicom says of its own defects
    values = dict(setting.split("=", 1) for setting in settings)
    largest_file = values.pop("largest_file", None)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), int(largest_file)))
    config = ListenerConfig.model_validate(
        {"host": "127.0.0.1", "port": 0, "disk_reserve_bytes": 0, **values}
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Listener(config, Path(folder), open_database(url), "test") as listener:
        print(listener.port, flush=True)
        stop.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
