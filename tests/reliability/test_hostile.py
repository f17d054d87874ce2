"""Attacks on the running receiver and on everybody who reads files, in their short form."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reliability.bombs import BOMBS, write
from tests.reliability.fuzz import answers_echo, deliver, fuzz, receiver
from tests.reliability.left_open import leave_open
from tests.reliability.mutations import CONTEXTS, Mutator
from tests.scp.raw_peer import RawPeer

PEAK_MB = 1000
"""Of a process that reads all bombs; a third of it is the largest picture that is taken."""


@pytest.mark.reliability
def test_malformed_messages_end_their_own_association_and_nothing_else() -> None:
    with receiver() as target:
        seen = fuzz(target, messages=2000, seed=int(time.time()))
        log = target.log.read_text(errors="replace")
    assert seen.is_fine, (seen, log[-5000:])
    assert seen.acknowledged > 100, "data sets that the indexer had to read"
    assert {"indexed", "quarantined"} <= set(seen.states)


def test_a_seed_repeats_its_messages() -> None:
    one, two = Mutator(7), Mutator(7)
    assert [one.attack() for _ in range(300)] == [two.attack() for _ in range(300)]


@pytest.mark.reliability
def test_associations_that_are_opened_and_left_cost_nothing_that_lasts() -> None:
    with receiver() as target:
        cost = leave_open(target, 1500)
    assert cost.is_fine, cost


def test_slow_sender_and_half_open_connection_are_ended() -> None:
    with receiver() as target, contextlib.ExitStack() as stack:
        half = stack.enter_context(RawPeer(target.port)).associate(*CONTEXTS)
        half.socket.shutdown(socket.SHUT_WR)
        slow = stack.enter_context(RawPeer(target.port)).associate(*CONTEXTS)
        attack = Mutator(1).attack()
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - start < 30:  # a byte at a time, for ever
                slow.send(b"\4")
                time.sleep(0.1)
                assert deliver(target.port, attack)
        assert time.monotonic() - start < 30
        assert half.read_pdu() is None
        assert answers_echo(target.port)


def test_bombs_are_refused_with_a_code_and_little_memory(tmp_path: Path) -> None:
    write(tmp_path / "bombs")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.reliability.bombs", tmp_path / "bombs"],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["name"]: row["code"] for row in rows} == {
        name: bomb.code for name, bomb in BOMBS.items()
    }, done.stderr[-2000:]
    assert rows[-1]["peak_mb"] < PEAK_MB, rows


def test_every_bomb_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    for name, bomb in BOMBS.items():
        answer = f"`{bomb.code}`" if bomb.code else "taken"
        assert f"| {name} | {answer}" in page, name
