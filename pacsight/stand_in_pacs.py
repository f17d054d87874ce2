"""A PACS for the demo: Orthanc where it is installed, else a receiver of our own.

Either takes the results by C-STORE, as a hospital's PACS would, and hands them back to look at.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import httpx
from sqlalchemy import select

from ledger.database import migrate, open_database, reading
from ledger.tables import ReceivedObject
from pacsight.errors import OperationError
from pacsight.waiting import wait_until
from scp.config import ListenerConfig
from scp.listener import Listener
from scp.spool import open_object

AE_TITLE = "DEMOPACS"
START_S = 30.0


class StandInPacs(Protocol):
    """What the demo needs of a PACS."""

    name: str
    port: int

    def objects(self) -> list[bytes]:
        """Return every object it holds, as Part 10 files."""


def free_port() -> int:
    """Return a TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def start_pacs(folder: Path) -> Iterator[StandInPacs]:
    """Run a PACS below `folder` for as long as the context lasts."""
    binary = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    with start_orthanc(binary, folder) if binary else start_receiver(folder) as pacs:
        yield pacs


class _Receiver:
    name = "a receiver of our own (Orthanc is not installed)"

    def __init__(self, folder: Path) -> None:
        self._spool = folder / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        self._database = open_database(f"sqlite:///{(folder / 'ledger.sqlite').absolute()}")
        migrate(self._database)
        config = ListenerConfig(ae_title=AE_TITLE, host="127.0.0.1", port=0)
        self._listener = Listener(config, self._spool, self._database, "demo")
        self._listener.start()
        self.port = self._listener.port

    def objects(self) -> list[bytes]:
        with reading(self._database) as session:
            rows = session.scalars(select(ReceivedObject).order_by(ReceivedObject.id)).all()
        newest = {row.sop_instance_uid: row for row in rows}
        found = []
        for row in newest.values():
            with open_object(self._spool, row.segment, row.offset, row.size) as file:
                found.append(file.read())
        return found

    def stop(self) -> None:
        self._listener.stop()
        self._database.dispose()


@contextmanager
def start_receiver(folder: Path) -> Iterator[StandInPacs]:
    """Run a receiver of our own as the PACS."""
    receiver = _Receiver(folder)
    try:
        yield receiver
    finally:
        receiver.stop()


class _Orthanc:
    name = "Orthanc"

    def __init__(self, port: int, http_port: int) -> None:
        self.port = port
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self._http.get("/system").is_success
        except httpx.TransportError:
            return False

    def objects(self) -> list[bytes]:
        ids = self._http.get("/instances").raise_for_status().json()
        return [self._http.get(f"/instances/{id_}/file").raise_for_status().content for id_ in ids]

    def close(self) -> None:
        self._http.close()


@contextmanager
def start_orthanc(binary: str, folder: Path) -> Iterator[StandInPacs]:
    """Run Orthanc as the PACS.

    Raises
    ------
    OperationError
        It did not start; its log says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, http_port = free_port(), free_port()
    config = {
        "Name": "Pacsight demo",
        "StorageDirectory": str((folder / "storage").absolute()),
        "IndexDirectory": str((folder / "index").absolute()),
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,  # bound to loopback, for a minute
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    log = (folder / "orthanc.log").open("wb")
    # TCP_NODELAY: dcmtk leaves Nagle on, which costs 40 ms for each C-STORE
    process = subprocess.Popen(
        [binary, str(file)], stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"}
    )
    orthanc = _Orthanc(port, http_port)
    try:
        if not wait_until(orthanc.is_ready, START_S):
            raise OperationError(f"Orthanc did not start; see {folder / 'orthanc.log'}.")
        yield orthanc
    finally:
        orthanc.close()
        process.terminate()
        process.wait(20)
        log.close()
