"""Studies a minute with 1, 2 and 4 workers on PostgreSQL and a shared store.

    python -m benchmarks.scale [--workers 1,2,4] [--studies 60] [--real]

A receiver with its intake worker, N workers (`--queues cpu,predict,deliver`), a PACS that stores
nothing. The studies are sent in one go; counted is from the first to be handed on to the last
result that the PACS accepted. The model is small (`--real`: cxr-pneumonia on pictures of 1024 x
832), so that the way is measured and not the network. All on one machine: more workers than it has
cores can't be faster, and the sender, PostgreSQL and the PACS share them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from sqlalchemy import func, select

from dicom_out.delivery import send
from ledger.database import reading
from ledger.domain import DeliveryState
from ledger.tables import Delivery, Event, Job, Revision
from pacsight.samples import chest_radiograph
from tests.inference.factories import write_model
from tests.peers.postgres import Postgres
from tests.peers.process import wait_until
from tests.peers.storage_scp import StorageScp
from tests.service import Service, one_model


class Machines:
    """A receiver and workers, each with a data folder of its own."""

    def __init__(self, folder: Path, url: str, pacs: StorageScp, workers: int, real: bool) -> None:
        if not real:
            write_model(folder / "models")
        self.folder = folder
        shared = {
            "pacs_port": pacs.port,
            "models_dir": str(one_model() if real else folder / "models"),
            "database_url": url,
            "object_store_url": f"file://{folder}/shared",
            "completeness": {"quiet_s": 0.3},
            "inference": {"backend": "openvino", "threads": 1},
        }
        self.receiver = Service(folder / "receiver", **shared)  # type: ignore[arg-type]
        self.workers = [Service(folder / f"worker-{n}", **shared) for n in range(workers)]  # type: ignore[arg-type]

    def start(self) -> None:
        self.receiver.start("scp", "--name", "receiver", wait=False)
        self.receiver.start("worker", "--queues", "intake", "--name", "receiver")
        for worker in self.workers:
            queues = ("--queues", "cpu,predict,deliver", "--name", worker.folder.name)
            worker.start("worker", *queues)
        self.receiver.wait_for_echo()
        wait_until(lambda: self._count(Event.action == "worker.ready") > len(self.workers),
                   "workers ready", timeout_s=120)  # fmt: skip

    def stop(self) -> None:
        for machine in (*self.workers, self.receiver):
            machine.stop()

    def _count(self, condition: object) -> int:
        with reading(self.receiver.ledger) as session:
            return int(
                session.scalar(select(func.count()).select_from(Event).where(condition)) or 0
            )  # type: ignore[arg-type]

    def delivered(self) -> int:
        with reading(self.receiver.ledger) as session:
            done = Delivery.state == DeliveryState.DELIVERED
            query = select(func.count()).select_from(Delivery).where(done)
            return int(session.scalar(query) or 0)

    def seconds(self, skip: int) -> float:
        """From the first hand-over to the last delivery, without the first `skip` studies."""
        with reading(self.receiver.ledger) as session:
            first = session.scalar(select(func.min(Job.created_at)).where(Job.revision_id > skip))
            last = session.scalar(select(func.max(Delivery.delivered_at)))
        return float(last - first)

    def warm(self) -> int:
        with reading(self.receiver.ledger) as session:
            return int(session.scalar(select(func.max(Revision.id))) or 0)


def measure(server: Postgres, workers: int, studies: int, real: bool) -> float:
    """Return studies a minute."""
    url = server.create_database()
    pacs = StorageScp("ORTHANC")
    pacs.start()
    size = {} if real else {"rows": 256, "columns": 208}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            machines = Machines(folder, url, pacs, workers, real)
            machines.start()
            try:
                paths = []
                for seed in range(studies + 2 * workers):
                    paths.append(folder / f"{seed}.dcm")
                    chest_radiograph(seed, consolidation=False, **size).save_as(paths[-1])
                itself = machines.receiver.itself
                warm, rest = paths[: 2 * workers], paths[2 * workers :]
                send(warm, itself, calling_ae_title="BENCH")
                wait_until(lambda: machines.delivered() >= 2 * len(warm), "warm-up", timeout_s=200)
                skip = machines.warm()
                receipts = send(rest, itself, calling_ae_title="BENCH")
                assert all(one.status == 0 for one in receipts)
                wait_until(lambda: machines.delivered() >= 2 * len(paths), "the end", timeout_s=250)
                return len(rest) / machines.seconds(skip) * 60
            finally:
                machines.stop()
    finally:
        pacs.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--studies", type=int, default=60)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    server = Postgres()
    server.start()
    try:
        for workers in map(int, options.workers.split(",")):
            started = time.monotonic()
            rate = measure(server, workers, options.studies, options.real)
            took = time.monotonic() - started
            print(f"{workers} workers: {rate:.0f} studies a minute ({took:.0f} s)", flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
