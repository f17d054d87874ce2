"""``pacsight scp`` as hospitals run it: small, and as clear about errors as every command."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil

from ledger.database import reading
from ledger.tables import ReceivedObject
from tests.scp.raw_peer import RawPeer, store_message
from tests.service import Service

ASSOCIATIONS = 16
MEMORY_BYTES = 100_000_000


def test_receiver_serves_16_associations_in_100_mb(tmp_path: Path) -> None:
    service = Service(tmp_path, pacs_port=1)
    service.ledger  # noqa: B018 - migrated before, as on every start but the first
    service.start("scp")
    body = bytes(range(256)) * 2048  # 0.5 MB, a CT slice
    with ExitStack() as stack:
        peers = [
            stack.enter_context(RawPeer(service.port).associate()) for _ in range(ASSOCIATIONS)
        ]
        for number, peer in enumerate(peers):
            peer.send(store_message(body, piece=100_000, instance_uid=f"1.2.{number}"))
        assert [peer.read_status() for peer in peers] == [0] * ASSOCIATIONS
        process = psutil.Process(service.processes["scp"].pid)
        libraries = {Path(mapped.path).name for mapped in process.memory_maps()}
        status = Path(f"/proc/{process.pid}/status").read_text()
    service.stop()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]
    assert int(peak) * 1024 < MEMORY_BYTES
    assert not any(name.startswith(("_multiarray", "_imaging", "libtorch")) for name in libraries)
    with reading(service.ledger) as session:
        assert session.query(ReceivedObject).count() == ASSOCIATIONS


def test_second_receiver_on_a_data_folder_says_so_and_ends(tmp_path: Path) -> None:
    service = Service(tmp_path, pacs_port=1)
    service.start("scp")
    command = [sys.executable, "-m", "pacsight", "--config", str(service.config), "scp"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    service.stop()
    assert second.returncode == 1
    assert second.stderr.startswith("ALREADY_RUNNING: ")
    assert second.stderr.count("\n") == 1
