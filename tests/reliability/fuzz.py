"""Malformed associations, messages and data sets against a running receiver.

``python -m tests.reliability.fuzz --messages 100000 --seed 1`` starts a receiver, sends, looks at
its memory, descriptors and log, asks for C-ECHO and C-STORE, has every object indexed that was
acknowledged, and prints what it saw. Exit status 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from ledger.database import migrate, open_database, reading
from ledger.tables import ReceivedObject
from scp.indexer import index_received
from tests.reliability.mutations import CONTEXTS, Attack, Mutator
from tests.scp.raw_peer import COMMAND, LAST, RawPeer, echo_rq, pdu, pdv, store_message

SENDERS = 8
WARM_UP = 400
PATIENCE_S = 20.0
POOLED = 16
"""Descriptors of the ledger's connections, which are opened as senders need them and then kept."""
SETTINGS = {"idle_timeout_s": 5, "stall_timeout_s": 3, "artim_timeout_s": 3}
DEFECT = re.compile(r"Exception (in|ignored)")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run showed."""

    messages: int
    seed: int
    crashes: int
    """1 if the receiver ended"""
    unforeseen: int
    """exceptions in its log that nobody expected"""
    without_end: int
    """connections that it neither answered nor ended"""
    memory_mb: tuple[float, float]
    """resident, after warming up and at the end"""
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    echo_answered: bool
    valid_object_stored: bool
    acknowledged: int
    """objects of the malformed messages that the receiver could take as they were"""
    states: dict[str, int]
    """what the indexer made of them"""
    seconds: float

    @property
    def is_fine(self) -> bool:
        before, after = self.memory_mb
        return (
            not (self.crashes or self.unforeseen or self.without_end)
            and after < before + 40
            and self.descriptors[1] <= self.descriptors[0] + POOLED
            and self.threads[1] <= self.threads[0]
            and self.echo_answered
            and self.valid_object_stored
            and "received" not in self.states
        )


class Receiver:
    """A listener in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.ledger: Engine = open_database(url)
        migrate(self.ledger)
        self.log = folder / "log"
        settings = [f"{key}={value}" for key, value in SETTINGS.items()]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.scp.listen", self.spool, url, *settings],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def memory_mb(self) -> float:
        return int(self._status("VmRSS").split()[0]) / 1024

    @property
    def threads(self) -> int:
        return int(self._status("Threads"))

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def _status(self, name: str) -> str:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(line for line in text.splitlines() if line.startswith(name)).split(":")[1]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.ledger.dispose()


@contextmanager
def receiver() -> Iterator[Receiver]:
    with tempfile.TemporaryDirectory(prefix="pacsight-fuzz-") as folder:
        running = Receiver(Path(folder))
        try:
            yield running
        finally:
            running.stop()


def deliver(port: int, attack: Attack) -> bool:
    """Send it on a connection of its own; whether the receiver ended that in time."""
    try:
        with RawPeer(port, timeout_s=PATIENCE_S) as peer:
            if attack.associates:
                peer.associate(*CONTEXTS)
            peer.send(attack.data)
            peer.socket.shutdown(socket.SHUT_WR)
            while peer.socket.recv(1 << 16):
                pass
    except TimeoutError:
        return False
    except (ConnectionError, OSError):  # it hung up first
        return True
    return True


def fuzz(target: Receiver, *, messages: int, seed: int) -> Seen:
    start = time.monotonic()
    without_end = 0
    before = (0.0, 0, 0)
    with ThreadPoolExecutor(SENDERS) as senders:
        for first, count in ((0, WARM_UP), (WARM_UP, messages - WARM_UP)):
            mutators = [Mutator(seed * 1000 + first + n) for n in range(SENDERS)]
            shares = [count // SENDERS + (n < count % SENDERS) for n in range(SENDERS)]
            without_end += sum(senders.map(_send_all, [target] * SENDERS, mutators, shares))
            if not first and target.is_alive:
                _settle(target)
                before = (target.memory_mb, target.descriptors, target.threads)
    is_alive = target.is_alive
    after = before
    if is_alive:
        _settle(target)
        after = (target.memory_mb, target.descriptors, target.threads)
    return Seen(
        messages=messages,
        seed=seed,
        crashes=not is_alive,
        unforeseen=len(DEFECT.findall(target.log.read_text(errors="replace"))),
        without_end=without_end,
        memory_mb=(round(before[0], 1), round(after[0], 1)),
        descriptors=(before[1], after[1]),
        threads=(before[2], after[2]),
        echo_answered=is_alive and answers_echo(target.port),
        valid_object_stored=is_alive and stores(target),
        acknowledged=_count(target.ledger) - is_alive,
        states=indexed(target),
        seconds=round(time.monotonic() - start, 1),
    )


def _send_all(target: Receiver, mutator: Mutator, count: int) -> int:
    """Return how many connections did not end."""
    failures = 0
    for _ in range(count):
        attack = mutator.attack()
        if target.is_alive:
            failures += not deliver(target.port, attack)
    return failures


def _settle(target: Receiver) -> None:
    """Wait until no association is left: the one thread per connection and its reactor."""
    idle = target.threads
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        time.sleep(0.5)
        if target.threads >= idle:
            break
        idle = target.threads


def answers_echo(port: int) -> bool:
    with RawPeer(port).associate() as peer:
        peer.send(pdu(pdv(COMMAND | LAST, echo_rq(), 3)))
        return peer.read_status() == 0


def stores(target: Receiver) -> bool:
    before = _count(target.ledger)
    with RawPeer(target.port).associate() as peer:
        peer.send(store_message(b"\x08\0\x18\0UI\x08\x001.2.3.4\0", instance_uid="1.2.3.4"))
        status = peer.read_status()
    return status == 0 and _count(target.ledger) == before + 1


def _count(ledger: Engine) -> int:
    with reading(ledger) as session:
        return session.scalar(select(func.count()).select_from(ReceivedObject)) or 0


def indexed(target: Receiver) -> dict[str, int]:
    """Read every object that was acknowledged; what became of them."""
    while index_received(target.ledger, target.spool, now=0.0):
        pass
    with reading(target.ledger) as session:
        rows = session.execute(
            select(ReceivedObject.state, func.count()).group_by(ReceivedObject.state)
        )
        return {str(state): count for state, count in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep-log", type=Path, help="where the receiver's log goes")
    options = parser.parse_args()
    with receiver() as target:
        seen = fuzz(target, messages=options.messages, seed=options.seed)
        if options.keep_log:
            options.keep_log.write_bytes(target.log.read_bytes())
    print(json.dumps({**dataclasses.asdict(seen), "fine": seen.is_fine}))
    sys.exit(not seen.is_fine)


if __name__ == "__main__":
    main()
