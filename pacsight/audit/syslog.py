"""Messages to a syslog collector: RFC 5424 over TCP or TLS, framed by length (RFC 6587, 5425).

Syslog has no answers. What tells that messages have arrived is the end of the connection: after the
last one we say that no more will come and wait until the peer closes too. A peer that closes an
orderly connection has read it to its end; one that dies or loses data resets it, and everything is
sent again. So a message may come twice but never not at all.
"""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Iterable
from contextlib import closing, suppress

from ledger.product import PRODUCT
from pacsight.audit.config import CollectorConfig
from pacsight.audit.message import timestamp
from pacsight.errors import CollectorError

PRIORITY = 10 * 8 + 5
"""Facility 10 (security), severity 5 (notice): PS3.15 section A.6, after IHE ATNA."""
MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"


def format_message(xml: bytes, *, at: float, host: str) -> bytes:
    """Return an audit message as a syslog message (RFC 5424 section 6)."""
    name = host.encode("ascii", "replace").decode().replace(" ", "-")[:255] or "-"
    header = f"<{PRIORITY}>1 {timestamp(at)} {name} {PRODUCT} {os.getpid()} {MESSAGE_ID} - "
    return header.encode() + _BOM + xml


def frame(message: bytes) -> bytes:
    """Return a message after its length (RFC 6587 section 3.4.1, RFC 5425 section 4.3)."""
    return f"{len(message)} ".encode() + message


def send_messages(config: CollectorConfig, messages: Iterable[bytes]) -> None:
    """Send messages over a connection of their own, and return when the collector has them.

    Raises
    ------
    CollectorError
        It can't be reached, isn't who it should be, or broke off: perhaps it has some of them.
    """
    context = _tls(config) if config.transport == "tls" else None
    try:
        plain = socket.create_connection((config.host, config.port), config.timeout_s)
        with closing(plain):
            plain.settimeout(config.timeout_s)
            if context is None:
                connection = plain
            else:
                connection = context.wrap_socket(plain, server_hostname=config.host)
            with closing(connection):
                for message in messages:
                    connection.sendall(frame(message))
                _finish(connection)
    except ssl.SSLCertVerificationError as error:
        raise CollectorError(
            f"The audit collector's certificate isn't trusted ({error.verify_message}); check "
            "audit.collector.ca_file."
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CollectorError(f"The audit collector can't be reached: {reason}.") from error


def _finish(connection: socket.socket) -> None:
    """Say that this was all, and wait until the peer has closed and its machine has everything."""
    try:
        if isinstance(connection, ssl.SSLSocket):
            with suppress(ssl.SSLEOFError):  # it closes without a farewell of its own
                connection = connection.unwrap()
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    except TimeoutError:
        if _unacknowledged(connection):
            raise
        return  # it holds the connection open, but its machine has acknowledged every byte
    failure = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure or _unacknowledged(connection):  # it was closed before it had read all
        raise ConnectionResetError(failure, "it broke off")


def _unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the peer's machine has not acknowledged (tcp(7), SIOCOUTQ)."""
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def _tls(config: CollectorConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate_file is not None:
            context.load_cert_chain(config.certificate_file, config.key_file)
    except OSError as error:
        raise CollectorError(
            f"The certificates of audit.collector can't be used: {error.strerror or error}."
        ) from error
    return context
