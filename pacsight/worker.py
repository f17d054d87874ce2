"""The worker process: indexes, decides completeness, routes, infers, encodes and delivers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from sqlalchemy import Engine

from inference.errors import InferenceError
from inference.model_server import ModelServer
from inference.registry import Registry, scan_models
from ledger.database import transaction
from ledger.events import record
from pacsight.audit.auditor import Auditor
from pacsight.dispatcher import Dispatcher
from pacsight.engine import DurableEngine
from pacsight.exclusive import exclusive
from pacsight.heartbeat import INTAKE, Heartbeat, Identity
from pacsight.logs import apply_log_settings
from pacsight.monitoring.checks import holds, reaches_ledger
from pacsight.monitoring.collectors import DiskCollector
from pacsight.monitoring.metrics import REGISTRY
from pacsight.monitoring.server import Monitor, Probes
from pacsight.monitoring.tracing import Tracer
from pacsight.peers import QueryJournal
from pacsight.program import journalled
from pacsight.proofs import Prover
from pacsight.retention import Retention
from pacsight.settings import Settings, open_ledger
from pacsight.stages import perform
from pacsight.stages.context import StageContext
from scp.segments import spool_identity

logger = logging.getLogger(__name__)

QUEUES = (INTAKE, "cpu", "predict", "deliver")
WARM_JOIN_S = 10.0
"""How long a stopping worker waits for a model that is just being loaded."""
STOP_S = 10.0
"""How long it waits for a destination that is just being asked."""
CONCURRENCY = {"cpu": 2, "predict": 1, "deliver": 4}


def run_worker(
    settings: Settings, stop: threading.Event, *, name: str, queues: Sequence[str] = QUEUES
) -> None:
    """Work until `stop` is set.

    Parameters
    ----------
    name
        A restarted worker resumes at once what the worker of the same name on the same data folder
        left, so a second living one is refused.
    queues
        Which of :data:`QUEUES` to serve; ``intake`` reads this machine's spool and dispatches.

    Raises
    ------
    AlreadyRunningError
        A worker of that name runs on this data folder.
    LedgerError
        The database can't be opened.
    """
    apply_log_settings(settings.log, "worker")
    with exclusive(settings.data_dir / f"worker-{name}.lock"):
        database = open_ledger(settings)
        try:
            with Auditor(settings, database, time.time), journalled(database, "worker", name):
                _work(settings, database, stop, name=name, queues=queues)
        finally:
            database.dispose()


def _work(
    settings: Settings,
    database: Engine,
    stop: threading.Event,
    *,
    name: str,
    queues: Sequence[str],
) -> None:
    registry = scan_models(settings.models_dir)
    models = ModelServer(registry, settings.inference_config(), has_gates=True)
    tracer = Tracer.to_endpoint("worker", settings.monitoring.otlp_endpoint)
    context = StageContext(
        settings,
        database,
        settings.open_store(),
        registry,
        models,
        time.time,
        QueryJournal(database, time.time),
        tracer,
    )
    identity = Identity.draw(name, spool_identity(settings.spool_dir), tuple(queues))
    engine = DurableEngine(
        settings.engine_url,
        executor_id=identity.executor_id,
        perform=partial(perform, context),
        concurrency={queue: CONCURRENCY[queue] for queue in queues if queue in CONCURRENCY},
    )
    heartbeat = Heartbeat(database, identity, engine.take_over)
    is_ready = threading.Event()
    monitor = _monitor(settings, database, heartbeat, is_ready)
    heartbeat.begin()
    engine.start()
    heartbeat.start()

    def get_ready() -> None:
        if "predict" in queues:
            _warm(models, registry, stop)
        if not stop.is_set():
            _tell_ready(database, name, queues, len(registry.models))
            is_ready.set()

    # Beside the work: many models take a minute, and what is due needn't wait for all of them.
    getting_ready = threading.Thread(target=get_ready, name="warm", daemon=True)
    getting_ready.start()
    proving = threading.Thread(
        target=Prover(settings, database, time.time).run,
        args=(stop,),
        name="prover",
        daemon=True,
    )
    if "deliver" in queues:
        proving.start()
    if INTAKE in queues:
        keeping = Retention(settings, database, time.time)
        threading.Thread(target=keeping.run, args=(stop,), name="retention", daemon=True).start()
    try:
        with monitor:
            if INTAKE in queues:
                Dispatcher(settings, database, engine, time.time, tracer).run(stop)
            stop.wait()
    finally:
        engine.stop()
        heartbeat.stop()
        tracer.close()
        getting_ready.join(WARM_JOIN_S)
        if proving.ident is not None:
            proving.join(STOP_S)


def _monitor(
    settings: Settings, database: Engine, heartbeat: Heartbeat, is_ready: threading.Event
) -> Monitor:
    config = settings.monitoring
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(DiskCollector(settings.data_dir, settings.scp.disk_reserve_bytes))
    registry.register(REGISTRY)
    probes = Probes(
        alive={"heartbeat": holds(lambda: heartbeat.is_alive, "the heartbeat goes on")},
        ready={
            "models": holds(is_ready.is_set, "the models are loaded"),
            "ledger": partial(reaches_ledger, database),
        },
    )
    return Monitor(config.host, config.worker_port, "worker", registry, probes)


def _tell_ready(database: Engine, name: str, queues: Sequence[str], models: int) -> None:
    with transaction(database) as session:
        record(
            session,
            actor=name[:64],
            action="worker.ready",
            subject="worker",
            detail={"queues": list(queues), "models": models},
            now=time.time(),
        )
    logger.info("worker %s ready with %d models", name, models)


def _warm(models: ModelServer, registry: Registry, stop: threading.Event) -> None:
    """Load every model before its first study; one that can't be loaded fails its jobs, not us."""
    for package in registry.models:
        if stop.is_set():
            return
        try:
            models.warm(package.identity.model_id)
        except InferenceError as error:
            logger.warning("model %s: %s", package.identity.model_id, error)
