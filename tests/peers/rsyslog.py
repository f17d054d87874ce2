"""A private rsyslogd that takes messages over TCP or TLS and writes each as it came, one a line."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from tests.peers.process import Process, free_port, missing, program

GNUTLS = "lmnsd_gtls.so"
CONFIG = """
global(workDirectory="{folder}" maxMessageSize="64k" {files})
module(load="imtcp" {driver})
template(name="raw" type="string" string="%rawmsg%\\n")
ruleset(name="audit") {{ action(type="omfile" file="{stored}" template="raw") }}
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="audit")
"""


class Rsyslog:
    """Listens on a port that stays the same when it was down; it appends to one file.

    Parameters
    ----------
    tls
        Certificate, key and authority (PEM); both sides show a certificate.
    """

    def __init__(self, folder: Path, tls: tuple[Path, Path, Path] | None = None) -> None:
        executable = program("rsyslogd")
        if tls and not list(Path("/usr/lib").glob(f"*/rsyslog/{GNUTLS}")):
            missing("rsyslog-gnutls")
        folder.mkdir()
        self.port = free_port()
        self._stored = folder / "messages"
        files = driver = ""
        if tls:
            names = ("CertFile", "KeyFile", "CAFile")
            files = " ".join(
                f'defaultNetstreamDriver{name}="{path}"'
                for name, path in zip(names, tls, strict=True)
            )
            driver = (
                'streamDriver.name="gtls" streamDriver.mode="1" '
                'streamDriver.authMode="x509/certvalid"'
            )
        config = folder / "rsyslog.conf"
        config.write_text(
            CONFIG.format(
                folder=folder, files=files, driver=driver, stored=self._stored, port=self.port
            )
        )
        command = [executable, "-n", "-f", config, "-i", folder / "pid"]
        self._process = Process(command, folder / "log")

    @property
    def messages(self) -> list[bytes]:
        return self._stored.read_bytes().splitlines() if self._stored.exists() else []

    def start(self) -> None:
        self._process.start(self._listens)

    def stop(self) -> None:
        self._process.stop()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False
