"""Full disks, locked ledgers, killed processes, huge objects."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import Engine

from scp.listener import Listener
from tests.peers.process import missing, program, wait_until
from tests.scp.conftest import Inbox, configured
from tests.scp.raw_peer import (
    COMMAND,
    DATA,
    LAST,
    RawPeer,
    echo_rq,
    pdu,
    pdv,
    store_message,
    store_rq,
)
from tests.scp.received import data_set_bytes, radiograph

BODY = bytes(range(256)) * 4000  # 1 MB


def store(peer: RawPeer, uid: str = "1.2.3", body: bytes = BODY) -> int:
    peer.send(store_message(body, piece=100_000, instance_uid=uid))
    return peer.read_status()


def echo(peer: RawPeer) -> int:
    peer.send(pdu(pdv(COMMAND | LAST, echo_rq(), 3)))
    return peer.read_status()


# -- the disk


def test_below_the_reserve_objects_are_refused_and_nothing_is_written(
    start_listener: Callable[..., Listener], inbox: Inbox, spool: Path
) -> None:
    listener = start_listener(disk_reserve_bytes=1 << 62)
    with RawPeer(listener.port).associate() as peer:
        for _ in range(2):
            peer.send(store_message(BODY))
            status, elements = peer.read_response()
            assert status == 0xA700
            assert b"Disk space is below the reserve" in elements[0x902]
        assert echo(peer) == 0
    assert inbox.rows() == []
    assert [path.name for path in spool.iterdir()] == ["identity"]


@pytest.fixture
def small_disk(spool: Path) -> Iterator[Path]:
    """A file system of 8 MB at the spool's place."""
    spool.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(spool)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        missing(f"the right to mount a small tmpfs ({done.stderr.strip()})")
    yield spool
    subprocess.run(["umount", "-l", str(spool)], check=True)


def test_full_disk_refuses_what_does_not_fit_and_keeps_what_was_acknowledged(
    small_disk: Path, start_listener: Callable[..., Listener], inbox: Inbox
) -> None:
    listener = start_listener()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    with RawPeer(listener.port).associate() as peer:
        statuses = [store(peer, f"1.2.{n}") for n in range(10)]
        assert statuses == sorted(statuses)
        assert set(statuses) == {0, 0xA700}
        assert echo(peer) == 0
        ballast.unlink()
        assert store(peer, "1.2.99") == 0
    rows = inbox.rows()
    assert [row.sop_instance_uid for row in rows] == [
        *(f"1.2.{n}" for n in range(statuses.count(0))),
        "1.2.99",
    ]
    assert all(inbox.data_set(row) == BODY for row in rows)
    listener.stop()


def test_failing_data_sync_is_refused_and_the_next_object_gets_another_segment(
    listener: Listener, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with RawPeer(listener.port).associate() as peer:
        assert store(peer, "1.2.1") == 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            assert store(peer, "1.2.2") == 0xA700
        assert store(peer, "1.2.3") == 0
    one, three = inbox.rows()
    assert (one.sop_instance_uid, three.sop_instance_uid) == ("1.2.1", "1.2.3")
    assert one.segment != three.segment
    assert inbox.data_set(one) == inbox.data_set(three) == BODY


# -- the ledger


def test_locked_ledger_refuses_and_the_association_lives_on(
    start_listener: Callable[..., Listener], sqlite_engine: Engine, inbox: Inbox
) -> None:
    listener = start_listener(commit_timeout_s=0.3)
    assert sqlite_engine.url.database is not None
    other = sqlite3.connect(sqlite_engine.url.database, isolation_level=None)
    with RawPeer(listener.port).associate() as peer:
        assert store(peer, "1.2.1") == 0
        other.execute("BEGIN IMMEDIATE")
        assert store(peer, "1.2.2") == 0xA700
        assert echo(peer) == 0
        other.execute("ROLLBACK")
        assert store(peer, "1.2.3") == 0
    other.close()
    assert [row.sop_instance_uid for row in inbox.rows()] == ["1.2.1", "1.2.3"]


@pytest.mark.peer
def test_postgresql_ledger_gets_the_same_rows(postgres_engine: Engine, spool: Path) -> None:
    inbox = Inbox(postgres_engine, spool)
    with Listener(configured(), spool, postgres_engine, "test") as listener:
        with RawPeer(listener.port).associate() as peer:
            assert [store(peer, f"1.2.{n}") for n in range(3)] == [0, 0, 0]
        wait_until(lambda: inbox.associations()[0].outcome == "lost", "the end")
    assert [inbox.data_set(row) == BODY for row in inbox.rows()] == [True] * 3


# -- processes


@pytest.fixture
def start_process(sqlite_engine: Engine, spool: Path) -> Iterator[Callable[..., Any]]:
    """``start_process(key=value)`` returns a listener process and its port."""
    started: list[subprocess.Popen[str]] = []

    def start(**settings: Any) -> tuple[subprocess.Popen[str], int]:
        url = sqlite_engine.url.render_as_string()
        arguments = [f"{key}={value}" for key, value in settings.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.scp.listen", str(spool), url, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_file_that_may_not_grow_refuses_the_object(
    start_process: Callable[..., Any], inbox: Inbox
) -> None:
    _, port = start_process(largest_file=3 << 20)
    with RawPeer(port).associate() as peer:
        statuses = [store(peer, f"1.2.{n}") for n in range(6)]
        assert statuses == [0, 0, 0, 0xA700, 0, 0]  # the fourth doesn't fit, a new segment opens
        assert store(peer, "1.2.9", BODY * 4) == 0xA700
        assert store(peer, "1.2.10") == 0
    assert all(inbox.data_set(row) == BODY for row in inbox.rows())
    assert len(inbox.rows()) == 6


def test_memory_stays_flat_with_a_600_mb_object(
    start_process: Callable[..., Any], inbox: Inbox
) -> None:
    process, port = start_process()
    piece = os.urandom(131_060)
    count = 600_000_000 // len(piece)
    with RawPeer(port, timeout_s=60).associate() as peer:
        assert store(peer, "1.2.1") == 0
        before = peak_rss_bytes(process.pid)
        peer.send(pdu(pdv(COMMAND | LAST, store_rq("1.2.2"))))
        message = pdu(pdv(DATA, piece))
        for _ in range(count):
            peer.send(message)
        peer.send(pdu(pdv(LAST, b"")))
        assert peer.read_status() == 0
    assert peak_rss_bytes(process.pid) - before < 8 << 20
    large = inbox.rows()[1]
    assert large.size > 599_000_000
    (inbox.spool / large.segment).unlink()


def peak_rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Path and sha256 of the data set of 120 objects, by SOP Instance UID."""
    folder = tmp_path_factory.mktemp("objects")
    found = {}
    for number in range(120):
        ds = radiograph(Rows=256, Columns=256, PixelData=os.urandom(1 << 16))
        data = data_set_bytes(ds)
        path = folder / f"{number:03d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        found[str(ds.SOPInstanceUID)] = (path, hashlib.sha256(data).hexdigest())
    return found


@pytest.mark.peer
@pytest.mark.reliability
@pytest.mark.parametrize("kill_after", [1, 40])
def test_killed_listener_keeps_what_it_acknowledged(
    start_process: Callable[..., Any],
    inbox: Inbox,
    files: dict[str, tuple[Path, str]],
    kill_after: int,
) -> None:
    process, port = start_process()
    paths = [path for path, _ in files.values()]
    acknowledged: list[Path] = []

    def send(part: list[Path]) -> None:
        sender = subprocess.Popen(
            [program("storescu"), "-v", "-aec", "PACSIGHT", "127.0.0.1", str(port), *part],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        assert sender.stdout is not None
        with sender, sender.stdout as output:
            for line in output:
                if "Sending file: " in line:
                    current = Path(line.split("Sending file: ")[1].strip())
                elif "Store Response (Success)" in line:
                    acknowledged.append(current)
                    if len(acknowledged) >= kill_after:
                        process.send_signal(signal.SIGKILL)

    with ThreadPoolExecutor(4) as senders:
        list(senders.map(send, [paths[n::4] for n in range(4)]))
    process.wait()
    assert kill_after <= len(acknowledged) < len(paths)
    stored = {row.sop_instance_uid: row for row in inbox.rows()}
    uids = {
        str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in acknowledged
    }
    assert uids <= stored.keys()
    for uid, row in stored.items():  # those committed but not yet acknowledged too
        assert hashlib.sha256(inbox.data_set(row)).hexdigest() == files[uid][1]
    _, port = start_process()
    assert {a.outcome for a in inbox.associations()} == {"lost"}
    with RawPeer(port).associate() as peer:
        assert store(peer) == 0
    assert inbox.rows()[-1].segment not in {row.segment for row in stored.values()}


def test_terminated_listener_ends_within_seconds(
    start_process: Callable[..., Any], inbox: Inbox
) -> None:
    process, port = start_process()
    with RawPeer(port).associate() as peer:
        assert store(peer) == 0
        start = time.monotonic()
        process.terminate()
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - start < 4
    assert inbox.associations()[0].outcome == "aborted"
