"""A small HTTP server beside each role: ``/metrics``, ``/healthz``, ``/readyz``.

``/healthz`` tells whether the process should be started again; it asks no other machine, for a
database that is down is no reason to kill its clients. ``/readyz`` tells whether work can be done
now.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self, TypeAlias

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ledger.errors import PacsightError
from pacsight import __version__
from pacsight.errors import SettingsError

logger = logging.getLogger(__name__)

Check: TypeAlias = Callable[[], None]
"""Raises PacsightError if what it looks at isn't well."""
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked to answer the probes, by name."""

    alive: Mapping[str, Check] = field(default_factory=dict)
    ready: Mapping[str, Check] = field(default_factory=dict)


def answer(checks: Mapping[str, Check]) -> tuple[int, dict[str, str]]:
    """Return HTTP status and a word for each check: ``ok``, or the code of what is wrong."""
    words = {}
    for name, check in checks.items():
        try:
            check()
            words[name] = "ok"
        except PacsightError as error:
            words[name] = error.code
        except Exception as error:  # noqa: BLE001 - whatever is wrong, it isn't well
            words[name] = type(error).__name__
    is_well = all(word == "ok" for word in words.values())
    return (200 if is_well else 503), {"status": "ok" if is_well else "failing", **words}


class Monitor:
    """Serves a role's metrics and probes from a thread of its own. A context manager.

    Parameters
    ----------
    port
        None: it serves nothing.
    registry
        Of the role's metrics.

    Raises
    ------
    SettingsError
        The port can't be had.
    """

    def __init__(
        self, host: str, port: int | None, role: str, registry: CollectorRegistry, probes: Probes
    ) -> None:
        self._server: ThreadingHTTPServer | None = None
        if port is None:
            return
        Gauge("pacsight_info", "Role and version", ["role", "version"], registry=registry).labels(
            role, __version__
        ).set(1)

        class Handler(_Handler):
            pages = (registry, probes)

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise SettingsError(
                f"monitoring.{role}_port: {host} port {port} can't be listened on: "
                f"{error.strerror}."
            ) from error
        self._server.daemon_threads = True
        logger.info("metrics and probes of %s on port %d", role, port)

    def __enter__(self) -> Self:
        """Begin to serve."""
        if self._server is not None:
            threading.Thread(
                target=self._server.serve_forever, args=(0.2,), name="monitor", daemon=True
            ).start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    pages: tuple[CollectorRegistry, Probes]
    timeout = TIMEOUT_S
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        registry, probes = self.pages
        match self.path:
            case "/metrics":
                self._send(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            case "/healthz" | "/readyz":
                checks = probes.alive if self.path == "/healthz" else probes.ready
                status, words = answer(checks)
                self._send(status, json.dumps(words).encode() + b"\n", "application/json")
            case _:
                self._send(404, b"/metrics, /healthz or /readyz\n", "text/plain")

    def _send(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a probe comes every few seconds."""
