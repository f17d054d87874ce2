"""A day at ten times the normal load, in minutes: does the queue empty, is anything refused?

    python -m benchmarks.day [--studies 100] [--seconds 120] [--normal 10]

A real ``pacsight serve`` on SQLite with a small model, four modalities that send over the day as
hospitals do (little at night, a peak before noon and one after), a PACS that is slow and is down
for half an hour at noon. Normal is what `--normal` says: 10 studies a day for this model, as of a
small emergency department; ten times that is sent. A day of 24 hours takes `--seconds`, so this
machine sees hundreds of times that load. Every second hour the queue is printed: unread objects,
studies not yet complete, jobs, deliveries. In the end every C-STORE must have got Success, and the
PACS must have a report and a heatmap of each study.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import func, select

from dicom_out.delivery import send
from ledger.database import reading
from ledger.operations import queue_figures
from ledger.tables import Event, Job, Study
from pacsight.samples import chest_radiograph
from tests.inference.factories import write_model
from tests.peers.process import wait_until
from tests.peers.storage_scp import StorageScp
from tests.service import Service

HOURS = (2, 1, 1, 1, 1, 2, 4, 8, 14, 18, 20, 18, 12, 14, 18, 18, 14, 10, 8, 6, 5, 4, 3, 2)
"""Relative load of each hour."""
NOON = 12.0
DOWN_HOURS = 0.5
SLOW_S = 0.05
MODALITIES = 4


class SlowScp(StorageScp):
    """A PACS that takes its time with each object."""

    def _store(self, event: object) -> int:
        time.sleep(SLOW_S)
        return super()._store(event)


def times(studies: int, seconds: float) -> list[float]:
    """When studies are sent, in seconds from the start of the day."""
    rng = random.Random(1)
    hours = rng.choices(range(24), weights=HOURS, k=studies)
    return sorted((hour + rng.random()) / 24 * seconds for hour in hours)


class Day:
    """One simulated day."""

    def __init__(self, folder: Path, studies: int, seconds: float) -> None:
        write_model(folder / "models")
        self.folder, self.seconds = folder, seconds
        self.times = times(studies, seconds)
        self.pacs = SlowScp("ORTHANC")
        self.service = Service(
            folder / "pacsight",
            pacs_port=self.pacs.port,
            models_dir=str(folder / "models"),
            inference={"backend": "openvino", "threads": 1},
            delivery={"first_retry_s": 1, "longest_retry_s": 2},
        )
        self.statuses: collections.Counter[int | None] = collections.Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()

    def run(self) -> None:
        self.pacs.start()
        self.service.start("serve")
        wait_until(self._is_ready, "the worker", timeout_s=120)
        began = time.monotonic()
        watcher = threading.Thread(target=self._watch, args=(began,))
        watcher.start()
        with ThreadPoolExecutor(MODALITIES) as pool:
            for number, at in enumerate(self.times):
                time.sleep(max(0.0, began + at - time.monotonic()))
                pool.submit(self._send, number)
        watcher.join()
        wait_until(lambda: not self.queue()[0], "the queue to empty", timeout_s=600)
        self._report(time.monotonic() - began)

    def _is_ready(self) -> bool:
        with reading(self.service.ledger) as session:
            ready = select(Event.id).where(Event.action == "worker.ready")
            return session.scalar(ready.limit(1)) is not None

    def _send(self, number: int) -> None:
        path = self.folder / f"{number}.dcm"
        chest_radiograph(number, consolidation=False, rows=256, columns=208).save_as(path)
        before = time.monotonic()
        (receipt,) = send([path], self.service.itself, calling_ae_title=f"XR{number % 4}")
        with self._lock:
            self.statuses[receipt.status] += 1
            self.slowest = max(self.slowest, time.monotonic() - before)
        path.unlink()

    def queue(self) -> tuple[int, dict[str, int], float]:
        """Return everything that waits, by kind, and the age of the oldest study in work."""
        with reading(self.service.ledger) as session:
            figures = queue_figures(session)
            opened = select(func.count()).select_from(Study).where(Study.open_since.is_not(None))
            waits = {
                "unread": figures["unread"],
                "incomplete": int(session.scalar(opened) or 0),
                "jobs": figures["queued"] + figures["running"],
                "deliveries": figures["pending"],
            }
            live = Job.state.in_(["queued", "running"])
            oldest = session.scalar(select(func.min(Job.created_at)).where(live))
        age = 0.0 if oldest is None else time.time() - oldest
        return sum(waits.values()), waits, age

    def _watch(self, began: float) -> None:
        print("| hour | sent | waiting | unread, incomplete, jobs, deliveries | oldest job, s |")
        print("|---|---|---|---|---|")
        for hour in range(1, 25):
            time.sleep(max(0.0, began + hour / 24 * self.seconds - time.monotonic()))
            if hour == NOON:
                self.pacs.stop()
                time.sleep(DOWN_HOURS / 24 * self.seconds)
                self.pacs.start()
            if hour % 2 == 0:
                total, waits, age = self.queue()
                kinds = ", ".join(str(waits[one]) for one in waits)
                sent = sum(self.statuses.values())
                print(f"| {hour} | {sent} | {total} | {kinds} | {age:.1f} |", flush=True)

    def _report(self, took: float) -> None:
        stored = collections.Counter(self.pacs.stored)
        again = sum(stored.values()) - len(stored)
        with reading(self.service.ledger) as session:
            failed = session.scalar(
                select(func.count()).select_from(Job).where(Job.state == "failed")
            )
        print(
            f"{len(self.times)} studies in {self.seconds:.0f} s, empty after {took:.0f} s; C-STORE "
            f"answers {dict(self.statuses)}, the slowest after {self.slowest:.2f} s; at the PACS "
            f"{len(stored)} objects (2 for each study), sent again {again}"
            f"; failed jobs {failed}"
        )
        if set(self.statuses) != {0} or len(stored) != 2 * len(self.times):
            sys.exit("something was refused or is missing")

    def stop(self) -> None:
        self.service.stop()
        self.pacs.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--normal", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=120.0)
    options = parser.parse_args()
    print(f"{options.studies / options.normal:.0f} times the normal {options.normal} a day")
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder), options.studies, options.seconds)
        try:
            day.run()
        finally:
            day.stop()


if __name__ == "__main__":
    main()
