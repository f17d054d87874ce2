"""What is measured, what alarms and boards say about it, and what probes answer."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from ledger.database import transaction
from ledger.events import record
from pacsight.errors import NotReadyError, SettingsError
from pacsight.logs import JsonFormatter, log_about
from pacsight.monitoring.collectors import DiskCollector, LedgerCollector, ReceiverCollector
from pacsight.monitoring.metrics import DELIVERED, INFERENCE, REGISTRY, STAGE, modality_label
from pacsight.monitoring.server import Monitor, Probes
from pacsight.monitoring.tracing import OFF, Tracer
from scp.config import ListenerConfig
from scp.listener import Listener
from tests.peers.process import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
NAME = re.compile(r"\bpacsight_[a-z_]+")
OF_PROMETHEUS = {"up"}


def families(engine: Engine, folder: Path) -> dict[str, Any]:
    """Return every metric that any role has, by name."""
    registry = CollectorRegistry()
    STAGE.labels("predict", "done")  # a metric with labels shows its series once it has some
    INFERENCE.labels("a-model")
    DELIVERED.labels("archive", "stored")
    listener = Listener(ListenerConfig(port=0), folder / "spool", engine, "test")
    registry.register(ReceiverCollector(listener))
    registry.register(DiskCollector(folder, 1))
    registry.register(LedgerCollector(engine))
    registry.register(REGISTRY)
    with Monitor("127.0.0.1", free_port(), "scp", registry, Probes()):
        text = generate_latest(registry).decode()
    return {one.name: one for one in text_string_to_metric_families(text)}


@pytest.fixture
def known(sqlite_engine: Engine, tmp_path: Path) -> dict[str, Any]:
    return families(sqlite_engine, tmp_path)


def names(known: dict[str, Any]) -> set[str]:
    """Return the names that queries may use."""
    found = set()
    for name, family in known.items():
        suffixes = {
            "counter": ["_total"],
            "histogram": ["_bucket", "_sum", "_count"],
            "summary": ["_sum", "_count"],
        }.get(family.type, [""])
        found |= {name + suffix for suffix in suffixes}
    return found


def expressions() -> list[str]:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "pacsight.rules.yaml").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "grafana" / "pacsight.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(alerts) > 10
    assert len(shown) > 15
    return alerts + shown


def test_alerts_and_dashboard_ask_for_metrics_that_exist(known: dict[str, Any]) -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert used - names(known) == set()
    assert {name for name in known if name.startswith("pacsight")} - {
        NAME_.removesuffix(suffix)
        for NAME_ in used
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    } <= {"pacsight_received_bytes"}, "what nobody looks at needn't be measured"


def test_every_alert_says_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "pacsight.rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}
            assert set(rule["annotations"]) == {"summary", "action"}


def test_figures_of_the_ledger_are_the_same_on_both_databases(
    engine: Engine, tmp_path: Path
) -> None:
    with transaction(engine) as session:
        record(session, actor="a", action="b.c", subject="s", detail={}, now=1.0)
    known = families(engine, tmp_path)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in known.values()
        for sample in family.samples
    }
    assert samples["pacsight_ledger_up",] == 1
    assert samples["pacsight_events_unsealed",] == 1
    assert samples["pacsight_oldest_waiting_seconds", "event"] > 1e9
    assert samples["pacsight_jobs", "predict", "queued"] == 0
    assert samples["pacsight_workers_alive", "deliver"] == 0


def test_ledger_that_is_down_is_a_figure_and_no_failure(tmp_path: Path) -> None:
    from ledger.database import open_database

    registry = CollectorRegistry()
    gone = f"postgresql://nobody@127.0.0.1:{free_port()}/x"
    registry.register(LedgerCollector(open_database(gone)))
    assert b"pacsight_ledger_up 0.0" in generate_latest(registry)


def test_modality_from_outside_is_no_label() -> None:
    assert modality_label("CT") == "CT"
    assert modality_label("Doe^John") == "other"


@pytest.fixture
def port() -> int:
    return free_port()


def test_probe_names_what_is_wrong(port: int) -> None:
    def broken() -> None:
        raise NotReadyError("no")

    def defect() -> None:
        raise ValueError("with a patient's name")

    probes = Probes(alive={"a": lambda: None}, ready={"a": lambda: None, "b": broken, "c": defect})
    with Monitor("127.0.0.1", port, "web", CollectorRegistry(), probes):
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok", "a": "ok"}
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "status": "failing", "a": "ok", "b": "NOT_READY", "c": "ValueError",
        }  # fmt: skip
        with pytest.raises(SettingsError, match=r"monitoring.web_port.*can't be listened on"):
            Monitor("127.0.0.1", port, "web", CollectorRegistry(), probes)


@pytest.fixture
def spans() -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracer = Tracer("worker", SimpleSpanProcessor(exporter))
    yield tracer, exporter
    tracer.close()


def test_two_processes_write_into_one_trace(spans: tuple[Tracer, InMemorySpanExporter]) -> None:
    """They share nothing but the id in the ledger."""
    tracer, exporter = spans
    other = Tracer("worker", SimpleSpanProcessor(exporter))
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    tracer.root(trace_id, "study", 10.0, 20.0, {"pacsight.study": 7})
    with (
        pytest.raises(NotReadyError),
        other.span(trace_id, "predict", {"pacsight.study": 7}),
    ):
        raise NotReadyError("with a patient's name")
    root, child = exporter.get_finished_spans()
    assert format(root.context.trace_id, "032x") == trace_id
    assert (root.start_time, root.end_time, root.parent) == (10 * 10**9, 20 * 10**9, None)
    assert child.parent is not None
    assert child.context.trace_id == root.context.trace_id
    assert child.parent.span_id == root.context.span_id
    assert child.context.span_id != root.context.span_id
    assert child.status.description == "NOT_READY", "the code, not the message"
    assert child.events == ()
    with OFF.span(trace_id, "predict", {}) as note:
        note("a", "b")


def test_json_lines_say_what_they_are_about_and_no_exceptions_text() -> None:
    formatter = JsonFormatter("worker")
    try:
        raise ValueError("Doe^John")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    entry = logging.LogRecord("pacsight.x", logging.INFO, __file__, 1, "job %s", ("a",), info)
    with log_about(trace_id="ff", study=3):
        line = json.loads(formatter.format(entry))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO", "logger": "pacsight.x", "role": "worker", "message": "job a",
        "trace_id": "ff", "study": 3, "exception": "ValueError",
    }  # fmt: skip
    assert "study" not in json.loads(formatter.format(entry))
