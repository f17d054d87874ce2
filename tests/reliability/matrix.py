"""The kill matrix: SIGKILL of every process at every step, under load; then everything is counted.

    python -m tests.reliability.matrix [--kills 300] [--out FILE]

A real Pacsight, a real Orthanc as PACS, modalities that send without pause, on SQLite and on
PostgreSQL. First, receiver and worker run by themselves and die at each step in turn and
at random moments; then ``pacsight serve`` runs, and the supervisor, its children, or all at
once are killed. In the end nobody is killed any more, and the PACS is compared with what the
modalities were told.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import func, select

from ledger.database import reading
from ledger.domain import JobState
from ledger.tables import Decision, Delivery, Job, ReceivedObject, Revision, Series, Study
from tests.inference.factories import write_model
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.reliability.killing import LISTENER, WORKER
from tests.reliability.traffic import Sent, Traffic
from tests.service import Service

RANDOM = "at a random moment"
SUPERVISOR = (
    "supervisor alone",
    "receiver under it",
    "worker under it",
    "web app under it",
    "all of them at once",
)
DATABASES = ("SQLite", "PostgreSQL")
ROLES = {"receiver": "pacsight.receiver_process", "worker": "worker", "web": "web"}
"""what a process has in its command line"""
PATIENCE_S = 120.0
CPU_ONLY = {"inference": {"backend": "openvino", "threads": 1}}


@dataclass
class Tally:
    """What the matrix counted."""

    database: str
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    """objects that got Success"""
    not_acknowledged: int = 0
    """attempts that got none and were repeated"""
    delivered_once: int = 0
    refused_visibly: int = 0
    lost: list[Sent] = field(default_factory=list)
    twice: list[Sent] = field(default_factory=list)
    seconds: float = 0.0

    def row(self) -> str:
        return (
            f"| {self.database} | {self.kills.total()} | {self.acknowledged} | "
            f"{self.delivered_once} | {self.refused_visibly} | {len(self.lost)} | "
            f"{len(self.twice)} | {self.not_acknowledged} | {self.seconds:.0f} |"
        )


HEADER = (
    "| database | kills | acknowledged | delivered once | refused visibly | lost | twice | "
    "sends without Success, repeated | seconds |\n|---|---|---|---|---|---|---|---|---|"
)


class Matrix:
    """One run on one database; see the module."""

    def __init__(self, service: Service, pacs: Orthanc, database: str, seed: int) -> None:
        self.service = service
        self.pacs = pacs
        self.tally = Tally(database)
        self.traffic = Traffic(service.itself, service.folder / "sent", seed)
        self._chance = random.Random(seed)
        self._over = threading.Event()

    def run(self, kills: int) -> Tally:
        """Kill `kills` times, let everything come to rest, and count."""
        started = time.monotonic()
        under_supervisor = max(2 + len(SUPERVISOR), kills // 8)
        of_listener = (kills - under_supervisor) * 2 // 5
        of_worker = kills - under_supervisor - of_listener
        watcher = threading.Thread(target=self._throttle)
        watcher.start()
        self.traffic.start()
        try:
            with ThreadPoolExecutor(2) as pool:
                parts = [
                    pool.submit(self._kill_at, "scp", self._moments(LISTENER, of_listener)),
                    pool.submit(self._kill_at, "worker", self._moments(WORKER, of_worker)),
                ]
                for part in parts:
                    part.result()
            self._kill_under_supervisor(under_supervisor)
            self._serve()
            self.traffic.stop()
            self._rest()
        finally:
            self._over.set()
            watcher.join()
        self._count()
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def _moments(self, moments: dict[str, tuple[object, str, str]], count: int) -> list[str]:
        """Return `count` moments: each of them in turn, and random ones, shuffled."""
        names = list(moments)
        self._chance.shuffle(names)
        mixed = [*names, *[RANDOM] * max(1, len(names) // 4)]
        chosen = list(itertools.islice(itertools.cycle(mixed), count))
        self._chance.shuffle(chosen)
        return chosen

    def _kill_at(self, role: str, moments: list[str]) -> None:
        """Start `role` again and again, each time to die at the next moment; then leave it on."""
        for number, moment in enumerate(moments):
            if moment == RANDOM:
                self.service.start(role, wait=False)
                time.sleep(self._chance.uniform(0.5, 6.0))
                self.service.kill(role)
            else:
                marker = self.service.folder / f"killed-{role}-{number}"
                program = ("-m", "tests.reliability.killing", moment, str(marker))
                self.service.start(role, program=program, wait=False)
                ended = self.service.wait_for_end(role, PATIENCE_S)
                assert (ended, marker.exists()) == (-signal.SIGKILL, True), (moment, ended)
            self.tally.kills[f"{role}: {moment}"] += 1
        self.service.start(role, wait=False)

    def _kill_under_supervisor(self, count: int) -> None:
        for role in ("scp", "worker"):
            self.service.kill(role)
        self.tally.kills["both: at a random moment"] += 2
        for number in range(count - 2):
            what = SUPERVISOR[number % len(SUPERVISOR)]
            self._serve()
            time.sleep(self._chance.uniform(0.5, 4.0))
            self._strike(what)
            self.tally.kills[f"serve: {what}"] += 1

    def _serve(self) -> None:
        serve = self.service.processes.get("serve")
        if serve is None or serve.poll() is not None:
            self.service.start("serve")

    def _strike(self, what: str) -> None:
        serve = psutil.Process(self.service.processes["serve"].pid)
        children = serve.children()
        role = ROLES.get(what.split()[0])
        if role is not None:
            for child in children:
                if role in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)
            return
        self.service.kill("serve")
        if what == "all of them at once":
            for child in children:
                child.kill()
        psutil.wait_procs(children, timeout=PATIENCE_S)  # else port and lock are still held

    def _throttle(self) -> None:
        """Tell the modalities how much is done, so that the load stays a load and no flood."""
        while not self._over.wait(0.3):
            with reading(self.service.ledger) as session:
                routed = select(func.count()).where(
                    Job.stage == "route", Job.state == JobState.DONE
                )
                bad = select(func.count()).where(ReceivedObject.state == "quarantined")
                settled = (session.scalar(routed) or 0) + (session.scalar(bad) or 0)
            self.traffic.note_settled(settled)

    def _rest(self) -> None:
        deadline = time.monotonic() + 4 * PATIENCE_S
        while any(self._under_way()):
            assert time.monotonic() < deadline, f"still under way: {list(self._under_way())}"
            time.sleep(0.2)

    def _under_way(self) -> Iterator[int]:
        with reading(self.service.ledger) as session:
            for query in (
                select(func.count()).where(ReceivedObject.state == "received"),
                select(func.count(Study.id)).where(Study.open_since.is_not(None)),
                select(func.count(Revision.id)).where(Revision.started_at.is_(None)),
                select(func.count(Job.id)).where(Job.state.in_(["queued", "running"])),
                select(func.count(Delivery.id)).where(Delivery.state == "pending"),
            ):
                yield session.scalar(query) or 0

    def _count(self) -> None:
        in_pacs = self._results_in_pacs()
        refused = self._refused()
        self.tally.acknowledged = len(self.traffic.acknowledged)
        self.tally.not_acknowledged = self.traffic.refused
        for sent in self.traffic.acknowledged:
            results = in_pacs.get(sent.study_instance_uid, Counter())
            if any(count > 1 for count in results.values()):
                self.tally.twice.append(sent)
            elif sent.kind == "radiograph" and results == Counter(SR=1, OT=1):
                self.tally.delivered_once += 1
            elif not results and {sent.study_instance_uid, sent.sop_instance_uid} & refused:
                self.tally.refused_visibly += 1
            else:
                self.tally.lost.append(sent)

    def _results_in_pacs(self) -> dict[str, Counter[str]]:
        """Return how many SOP Instances of each modality the PACS holds, by study."""
        uids = {
            study["ID"]: study["MainDicomTags"]["StudyInstanceUID"]
            for study in self.pacs.get("/studies?expand")
        }
        found: dict[str, Counter[str]] = {}
        for series in self.pacs.get("/series?expand"):
            counts = found.setdefault(uids[series["ParentStudy"]], Counter())
            counts[series["MainDicomTags"]["Modality"]] += len(series["Instances"])
        return found

    def _refused(self) -> set[str]:
        """Return studies that every model refuses with a code, and objects in quarantine."""
        with reading(self.service.ledger) as session:
            quarantined = session.scalars(
                select(ReceivedObject.sop_instance_uid).where(
                    ReceivedObject.state == "quarantined", ReceivedObject.reason_code.is_not(None)
                )
            )
            studies = session.execute(
                select(Study.study_instance_uid, func.count(Decision.id), func.count(Decision.code))
                .join(Series, Series.study_id == Study.id)
                .join(Revision, Revision.study_id == Study.id)
                .join(Decision, Decision.revision_id == Revision.id)
                .group_by(Study.study_instance_uid)
            )
            refused = {uid for uid, decisions, codes in studies if decisions == codes}
            return refused | set(quarantined)


def service_for(folder: Path, pacs: Orthanc, models: Path, database_url: str | None) -> Service:
    """Return a Pacsight with a quick model and no waits."""
    database = {} if database_url is None else {"database_url": database_url}
    return Service(
        folder,
        pacs_port=pacs.dicom_port,
        models_dir=str(models),
        completeness={"quiet_s": 0.2, "broken_quiet_s": 0.2},
        **CPU_ONLY,
        **database,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="on each database")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    postgres = Postgres()
    postgres.start()
    tallies = []
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_model(folder / "models")
            for database in DATABASES if options.database == "both" else [options.database]:
                url = postgres.create_database() if database == "PostgreSQL" else None
                pacs = Orthanc(folder / f"pacs-{database}", {})
                pacs.start()
                service = service_for(folder / database, pacs, folder / "models", url)
                try:
                    tally = Matrix(service, pacs, database, options.seed).run(options.kills)
                finally:
                    service.stop()
                    pacs.close()
                tallies.append(tally)
                print(tally.row(), flush=True)
    finally:
        postgres.stop()
    report = _report(tallies, options.seed)
    print(report)
    if options.out:
        options.out.write_text(report)
    if any(tally.lost or tally.twice for tally in tallies):
        raise SystemExit(1)


def _report(tallies: list[Tally], seed: int) -> str:
    lines = [HEADER, *(tally.row() for tally in tallies), "", f"Seed {seed}. Kills by moment:", ""]
    names = [tally.database for tally in tallies]
    lines += [f"| moment | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for moment in sorted(set().union(*(tally.kills for tally in tallies))):
        counts = " | ".join(str(tally.kills[moment]) for tally in tallies)
        lines.append(f"| {moment} | {counts} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
