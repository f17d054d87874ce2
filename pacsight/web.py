"""The web process: the app of ``viewer_api`` in uvicorn, until told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import Engine

from dicom_out.destination import Destination
from inference.registry import scan_models
from pacsight import __version__
from pacsight.errors import SettingsError
from pacsight.exclusive import exclusive
from pacsight.logs import apply_log_settings
from pacsight.monitoring.checks import reaches_ledger
from pacsight.monitoring.collectors import DiskCollector, LedgerCollector
from pacsight.monitoring.server import Monitor, Probes
from pacsight.program import journalled
from pacsight.settings import Settings, open_ledger
from scp.local_intake import LocalIntake
from viewer_api.app import create_app
from viewer_api.context import WebContext
from viewer_api.decoding import DecodingBudget

if TYPE_CHECKING:
    from pacsight.selftest import Shown

logger = logging.getLogger(__name__)

BACKLOG = 128
STOP_PATIENCE_S = 3
"""For answers under way; live pages are open for ever."""


def run_web(settings: Settings, stop: threading.Event, *, name: str | None = None) -> None:
    """Serve until `stop` is set.

    Parameters
    ----------
    name
        Of this process in the ledger; default: this host.

    Raises
    ------
    SettingsError
        The port can't be had.
    AlreadyRunningError
        A web process of that name runs on this data folder.
    LedgerError
        The database can't be opened.
    """
    apply_log_settings(settings.log, "web")
    name = name or socket.gethostname()
    with exclusive(settings.data_dir / f"web-{name}.lock"), _listen(settings) as listening:
        database = open_ledger(settings)
        context = WebContext(
            config=settings.web,
            database=database,
            registry=scan_models(settings.models_dir),
            intake=LocalIntake(settings.scp, settings.spool_dir, database, f"web-{name}"),
            data_dir=settings.data_dir,
            spool_dir=settings.spool_dir,
            store=settings.open_store(),
            destinations=settings.destinations,
            profile_of=settings.profile_of,
            self_test=partial(_self_test, settings),
            ae_title=settings.scp.ae_title,
            version=__version__,
            clock=time.time,
            decoding=DecodingBudget(settings.web.decoding_memory_bytes),
        )
        logger.info("web app on port %d", listening.getsockname()[1])
        with journalled(database, "web", name), _monitor(settings, database):
            asyncio.run(_serve(settings, context, listening, stop))
        database.dispose()


def _monitor(settings: Settings, database: Engine) -> Monitor:
    config = settings.monitoring
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(DiskCollector(settings.data_dir, settings.scp.disk_reserve_bytes))
    registry.register(LedgerCollector(database))
    probes = Probes(ready={"ledger": partial(reaches_ledger, database)})
    return Monitor(config.host, config.web_port, "web", registry, probes)


def _self_test(settings: Settings, destination: Destination) -> list[Shown]:
    from pacsight.selftest import run_selftest  # 60 MB that no other page needs

    return run_selftest(settings, destination, datetime.now().astimezone())


def _listen(settings: Settings) -> socket.socket:
    web = settings.web
    try:
        listening = socket.create_server((web.host, web.port), backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"web.port: {web.host} port {web.port} can't be listened on: {error.strerror}."
        ) from error
    # Connections inherit it. asyncio sets it only where a socket names TCP as its protocol; without
    # it the body of each answer waits 40 ms for the client's delayed ACK of the headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


async def _serve(
    settings: Settings, context: WebContext, listening: socket.socket, stop: threading.Event
) -> None:
    app = create_app(context)
    gc.collect()
    gc.freeze()  # or it walks through all imported modules now and then, 0.14 s that pages wait
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses of studies are patients' data
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.web.trusted_proxies),
        timeout_graceful_shutdown=STOP_PATIENCE_S,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[assignment,method-assign]  # ours are set

    async def watch() -> None:
        await asyncio.to_thread(stop.wait)
        server.should_exit = True

    watching = asyncio.create_task(watch())
    await server.serve(sockets=[listening])
    stop.set()
    await watching
