"""What a disk asks for durability: one append of a CT slice with its sync, one ledger commit.

    python -m benchmarks.sync [FOLDER]

The two costs stand behind every acknowledged object; a receiver that syncs nothing is spared them.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 200
SLICE = os.urandom(525_000)


def main() -> None:
    where = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        print("| append and fdatasync, 525 kB | commit, SQLite WAL, synchronous=FULL |\n|---|---|")
        print(f"| {median_ms(appending(folder)):.2f} ms | {median_ms(committing(folder)):.2f} ms |")


def median_ms(work: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def appending(folder: Path) -> Callable[[], None]:
    descriptor = os.open(folder / "segment", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append() -> None:
        os.write(descriptor, SLICE)
        os.fdatasync(descriptor)

    return append


def committing(folder: Path) -> Callable[[], None]:
    database = sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE row (value)")

    def commit() -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO row VALUES (1)")
        database.execute("COMMIT")

    return commit


if __name__ == "__main__":
    main()
