"""A real syslog collector: a TCP or TLS server that reads octet-counted messages."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from typing import Self


@dataclass
class Collector:
    """Listens on 127.0.0.1 once :meth:`start` was called; the port stays the same when it was down.

    ``breaks_after``: messages after which it resets the connection, once.
    """

    port: int
    tls: ssl.SSLContext | None = None
    breaks_after: int | None = None
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    errors: list[str] = field(default_factory=list)

    def start(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            with plain:
                try:
                    self._talk(plain)
                except OSError as error:
                    self.errors.append(str(error))

    def _talk(self, plain: socket.socket) -> None:
        peer = plain if self.tls is None else self.tls.wrap_socket(plain, server_side=True)
        with peer, peer.makefile("rb") as stream:
            count = 0
            while length := _length(stream.read(1), stream):
                if self.breaks_after is not None and count >= self.breaks_after:
                    self.breaks_after = None
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                message = stream.read(length)
                assert len(message) == length
                self.messages.append(message)
                count += 1
            if isinstance(peer, ssl.SSLSocket):
                peer.unwrap()


def _length(first: bytes, stream: object) -> int:
    digits = b""
    while first not in (b"", b" "):
        assert first.isdigit(), first
        digits += first
        first = stream.read(1)  # type: ignore[attr-defined]  # a binary stream
    return int(digits or 0)
