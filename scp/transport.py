"""Sockets and queues of an association, so that its threads wait in the kernel and never poll."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.transport import AssociationSocket

LOOKAHEAD_BYTES = 12  # a PDU's header and that of its first PDV (PS3.8 sections 9.3.1, 9.3.5.1)


class Wakeup:
    """Something to poll() beside a socket, set from other threads (Linux eventfd)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 after :meth:`close`."""
        return self._descriptor

    def set(self) -> None:
        """Wake the waiter; harmless after :meth:`close`."""
        # Under the lock, because a closed number may be a spool segment by now.
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        """Forget what was set."""
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back; :meth:`set` does nothing from now on."""
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1


class WakingQueue(queue.Queue[Any]):
    """A queue whose put() also wakes a thread that waits for something else."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `item`, then wake: the other way round the waiter would find nothing."""
        super().put(item, block, timeout)
        self._wake()


class StoreSocket(AssociationSocket):
    """pynetdicom's socket with large reads, a stall timeout, pushback, and poll() for select().

    Parameters
    ----------
    stall_timeout_s
        Longest time that a PDU may take once it has begun, and that a send may block, in seconds.
    """

    def __init__(self, assoc: Any, client_socket: socket.socket, stall_timeout_s: float) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._stall_timeout_s = stall_timeout_s
        self._deadline = float("inf")
        self._unread = b""
        self._lookahead = memoryview(bytearray(LOOKAHEAD_BYTES))
        self._is_plain = type(client_socket) is socket.socket
        if not self._is_plain:
            client_socket.settimeout(stall_timeout_s)  # OpenSSL would wait anew for each record
        timeval = struct.pack("@ll", *divmod(int(stall_timeout_s * 1_000_000), 1_000_000))
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def begin_pdu(self) -> None:
        """Start the stall timeout."""
        self._deadline = time.monotonic() + self._stall_timeout_s

    def check_deadline(self) -> None:
        """Raise TimeoutError when the PDU takes too long."""
        if time.monotonic() > self._deadline:
            raise TimeoutError("the peer stopped inside a PDU")

    def receive_ahead(self) -> bool:
        """Whether, after poll() said so, a read would give bytes or the peer's end. Never waits.

        What comes through TLS may also be a step of the handshake, or a part of a record.

        Raises
        ------
        OSError
            The handshake failed (ssl.SSLError), or the socket.
        """
        sock = self.socket
        if self._is_plain or sock is None:
            return True
        try:
            sock.settimeout(0)
            self._unread += sock.recv(LOOKAHEAD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        finally:
            sock.settimeout(self._stall_timeout_s)
        return True

    def unread(self, data: bytes) -> None:
        """Let the next reading begin with `data`."""
        self._unread = data + self._unread

    def recv(self, nr_bytes: int) -> bytearray:
        """Return `nr_bytes`, or what came before the peer closed."""
        data = bytearray(nr_bytes)
        with memoryview(data) as view:
            done = self._fill(view)
        del data[done:]
        return data

    def recv_exact(self, view: memoryview) -> None:
        """Fill `view`.

        Raises
        ------
        OSError
            The peer closed (ConnectionError), stopped (TimeoutError), or the socket failed.
        """
        if self._fill(view) < len(view):
            raise ConnectionResetError("the peer closed inside a PDU")

    def _fill(self, view: memoryview) -> int:
        """Fill `view` and return its length, or less when the peer closed."""
        done = min(len(view), len(self._unread))
        view[:done], self._unread = self._unread[:done], self._unread[done:]
        is_first = True
        while done < len(view):
            try:
                count = self._receive(view[done:], is_first)
            except BlockingIOError as error:  # SO_RCVTIMEO
                raise TimeoutError("the peer stopped inside a PDU") from error
            if not count:
                break
            done += count
            is_first = False
            if done < len(view):
                # MSG_WAITALL returned early, perhaps by SO_RCVTIMEO: don't wait that long again
                self.check_deadline()
        return done

    def _receive(self, view: memoryview, is_first: bool) -> int:
        """Read into `view`, in as few system calls as can be: each may cost the interpreter lock.

        First what is there, with the headers that follow; then all that is missing.
        """
        sock = self.socket
        if sock is None:
            raise ConnectionResetError("the socket is closed")
        if not self._is_plain:  # TLS: no flags, no scattering, records of at most 16 KiB anyway
            return sock.recv_into(view)
        if not is_first:
            return sock.recv_into(view, len(view), socket.MSG_WAITALL)
        count = sock.recvmsg_into([view, self._lookahead])[0]
        if count > len(view):
            self._unread = bytes(self._lookahead[: count - len(view)])
        return min(count, len(view))

    def discard(self, quiet_s: float, longest_s: float) -> None:
        """Read and forget until the peer closes or is quiet.

        A close with unread bytes resets the connection, and the peer may never see our last PDU.
        """
        sock = self.socket
        if sock is None:
            return
        deadline = time.monotonic() + longest_s
        waste = bytearray(1 << 16)
        if not self._is_plain:
            sock.settimeout(longest_s)
        poller = select.poll()
        with contextlib.suppress(OSError, ValueError):  # closed by another thread
            poller.register(sock, select.POLLIN)
            while time.monotonic() < deadline and poller.poll(quiet_s * 1000):
                if not sock.recv_into(waste):
                    return

    def _shutdown_socket(self) -> None:
        """Close, even where shutdown() fails because the peer was faster."""
        sock = self.socket
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()

    @property
    def has_pending(self) -> bool:
        """Whether bytes wait where poll() doesn't see them."""
        if self._unread:
            return True
        pending = getattr(self.socket, "pending", None)  # of an ssl.SSLSocket
        return pending is not None and pending() > 0

    @property
    def ready(self) -> bool:
        """Whether there is something to read; select() would fail from descriptor 1024 on."""
        if self.socket is None or not self._is_connected:
            return False
        if self.has_pending:
            return True
        poller = select.poll()
        try:
            poller.register(self.socket, select.POLLIN)
        except (OSError, ValueError):  # closed by another thread
            self.event_queue.put("Evt17")
            return False
        return bool(poller.poll(0))
