"""Metrics and probes of a receiver."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import Engine

from pacsight.monitoring.checks import holds, reaches_ledger
from pacsight.monitoring.collectors import DiskCollector, ReceiverCollector
from pacsight.monitoring.server import Monitor, Probes
from pacsight.settings import Settings
from scp.listener import Listener


def monitor_receiver(settings: Settings, database: Engine, listener: Listener) -> Monitor:
    """Return what serves them.

    Raises
    ------
    SettingsError
        The port can't be had.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(ReceiverCollector(listener))
    registry.register(DiskCollector(settings.data_dir, settings.scp.disk_reserve_bytes))
    listening = holds(lambda: listener.is_listening, "connections are accepted")
    probes = Probes(
        alive={"listener": listening},
        ready={
            "listener": listening,
            "ledger": partial(reaches_ledger, database),
            "disk": listener.check_reserve,
        },
    )
    config = settings.monitoring
    return Monitor(config.host, config.scp_port, "scp", registry, probes)
