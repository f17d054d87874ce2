"""What ``pacsight scp`` becomes: a process with only what receiving needs.

It may hold hundreds of associations on a machine that also runs a network, so the program's
commands, and libraries that pydicom loads whenever it finds them, are not in it: 75 MB and not 130.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

NEVER_USED_HERE = ("numpy", "PIL", "pylibjpeg", "openjpeg", "libjpeg", "rle", "requests", "tqdm")
VERBOSE, SUPERVISED = "--verbose", "--supervised"


def become_receiver(name: str | None, *, verbose: bool, supervised: bool) -> NoReturn:
    """Put a receiver in this process's place; settings as :func:`load_settings` finds them."""
    options = [name or ""] + [VERBOSE] * verbose + [SUPERVISED] * supervised
    os.execv(sys.executable, [sys.executable, "-m", __name__, *options])  # noqa: S606 - our own interpreter


def main(name: str, *options: str) -> None:
    """Receive until a signal or the supervisor's end."""
    from pacsight.logs import start_logging
    from pacsight.receiver import run_receiver
    from pacsight.reporting import reported
    from pacsight.settings import load_settings
    from pacsight.supervisor import stop_on_signals

    start_logging(verbose=VERBOSE in options)
    with reported():
        stop = stop_on_signals(supervised=SUPERVISED in options)
        run_receiver(load_settings(), stop, name=name or None)


if __name__ == "__main__":
    for module in NEVER_USED_HERE:
        sys.modules[module] = None  # type: ignore[assignment]  # how Python marks what isn't there
    main(*sys.argv[1:])
