"""Metrics that are read when somebody asks: the receiver's totals, the disk, the ledger.

The ledger's gauges are the same whichever process reads them; the web app does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Engine

from ledger.errors import LedgerError
from pacsight.monitoring.figures import read_figures
from scp.listener import Listener

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | SummaryMetricFamily


class DiskCollector(Collector):
    """Space where the data folder is."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes

    def collect(self) -> Iterator[Family]:
        """Yield what is free and what is kept free."""
        status = os.statvfs(self._folder)
        free = status.f_bavail * status.f_frsize
        yield GaugeMetricFamily(
            "pacsight_disk_free_bytes", "Free space of the data folder", value=free
        )
        yield GaugeMetricFamily(
            "pacsight_disk_reserve_bytes",
            "Space below which senders are refused",
            value=self._reserve_bytes,
        )


class ReceiverCollector(Collector):
    """What a receiver has done since it started."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def collect(self) -> Iterator[Family]:
        """Yield totals."""
        counts = self._listener.counts
        yield GaugeMetricFamily(
            "pacsight_associations_open", "Associations now", value=self._listener.associations
        )
        ended = CounterMetricFamily(
            "pacsight_associations", "Associations that have ended", labels=["outcome"]
        )
        for outcome, count in list(counts.associations.items()):
            ended.add_metric([outcome], count)
        yield ended
        yield SummaryMetricFamily(
            "pacsight_store_seconds",
            "From a C-STORE request to its Success",
            count_value=counts.objects,
            sum_value=counts.seconds,
        )
        yield CounterMetricFamily(
            "pacsight_received_bytes", "Of objects answered with Success", value=counts.size
        )
        refused = CounterMetricFamily(
            "pacsight_store_refused", "C-STORE requests refused", labels=["status"]
        )
        for status, count in list(counts.refused.items()):
            refused.add_metric([f"0x{status:04X}"], count)
        yield refused


class LedgerCollector(Collector):
    """Everything that waits, on all machines."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def collect(self) -> Iterator[Family]:
        """Yield gauges; only ``pacsight_ledger_up`` when the ledger can't be read."""
        try:
            figures = read_figures(self._database)
        except LedgerError:
            yield GaugeMetricFamily("pacsight_ledger_up", "Whether it can be read", value=0)
            return
        yield GaugeMetricFamily("pacsight_ledger_up", "Whether it can be read", value=1)
        for name, (described, labels, rows) in figures.items():
            family = GaugeMetricFamily(name, described, labels=labels)
            for values, value in rows.items():
                family.add_metric(list(values), value)
            yield family

    def describe(self) -> list[Family]:
        """Return nothing: registering must not ask the ledger."""
        return []
