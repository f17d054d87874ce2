"""A private PostgreSQL server."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from tests.peers.process import Process, free_port, program

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "fsync": "off",  # a test cuts no power
    "full_page_writes": "off",
}


class Postgres:
    """A server in a folder of its own, run by an unprivileged user: it refuses root."""

    def __init__(self) -> None:
        homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        initdb, server = program("initdb", *homes), program("postgres", *homes)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pacsight-postgres-"))  # reachable for the user
        self._user = _unprivileged_user()
        if self._user is not None:
            shutil.chown(self.folder, self._user, grp.getgrgid(pwd.getpwnam(self._user).pw_gid)[0])
        data = self.folder / "data"
        self._run(
            initdb, "-D", data, "-U", "pacsight", "-A", "trust", "-E", "UTF8", "-N", "--locale=C"
        )
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        self._process = Process(
            [server, "-D", data, "-p", str(self.port), *settings],
            self.folder / "log",
            user=self._user,
            stop_signal=signal.SIGINT,  # "fast" shutdown
        )

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            list(map(str, command)), check=True, capture_output=True, cwd="/", user=self._user
        )

    def start(self) -> None:
        self._process.start(self._answers)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"postgresql://pacsight@127.0.0.1:{self.port}/{database}"

    def create_database(self, *, template: str = "template0") -> str:
        """Return the URL of a new database: empty, or a copy of another."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self._dsn(name)

    def drop_database(self, url: str) -> None:
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)".encode())

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
