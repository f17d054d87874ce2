"""Is this installation healthy? What ``pacsight doctor`` looks at."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dicom_out.delivery import echo
from dicom_out.destination import Destination
from inference.registry import scan_models
from ledger.database import reading
from ledger.errors import PacsightError
from ledger.operations import outbox_figures
from pacsight.commands.output import in_words
from pacsight.settings import Settings, open_ledger
from scp.errors import TlsError
from scp.sweeping import sweep
from scp.tls import ClientTls, ServerTls


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: whether it is well, and a sentence."""

    name: str
    is_ok: bool
    message: str


def examine(settings: Settings) -> Iterator[Check]:
    """Yield one check after another; none changes anything but an outdated ledger schema."""
    yield _data_folder(settings)
    yield _ledger(settings)
    yield from _outbox(settings)
    yield from _models(settings)
    yield _inference()
    yield _receiver(settings)
    if not settings.destinations:
        yield Check("destinations", False, "None is set: results would stay here. Add one.")
    for destination in settings.destinations:
        yield _destination(settings, destination)


def _data_folder(settings: Settings) -> Check:
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        return Check("data folder", False, f"{settings.data_dir}: {error.strerror}.")
    if not os.access(settings.data_dir, os.W_OK):
        return Check(
            "data folder", False, f"{settings.data_dir} can't be written; change its owner."
        )
    reserve = settings.scp.disk_reserve_bytes
    sentence = f"{free / 1e9:.1f} GB free, {reserve / 1e9:.1f} GB kept in reserve."
    if free <= reserve:
        return Check("data folder", False, f"{sentence} Senders get 0xA700 until there is space.")
    return Check("data folder", True, sentence)


def _ledger(settings: Settings) -> Check:
    try:
        open_ledger(settings).dispose()
    except PacsightError as error:
        return Check("ledger", False, f"{error.code}: {error}")
    return Check("ledger", True, "PostgreSQL." if settings.database_url else "SQLite.")


def _outbox(settings: Settings) -> Iterator[Check]:
    """Yield how old the oldest undelivered result is, what is dead, and which bytes are stray."""
    try:
        database = open_ledger(settings)
        with reading(database) as session:
            outbox = outbox_figures(session)
        swept = sweep(
            database,
            settings.spool_dir,
            settings.open_shared_store(),
            now=time.time(),
            is_dry=True,
        )
        database.dispose()
    except PacsightError as error:
        yield Check("outbox", False, f"{error.code}: {error}")
        return
    oldest = outbox.oldest_undelivered_at
    age = (
        "Nothing waits"
        if oldest is None
        else f"Oldest undelivered: {in_words(time.time() - oldest)}"
    )
    sentence = f"{age}; {outbox.dead} dead letters, {outbox.unproven} without proof yet"
    advice = " See 'pacsight deliveries list --state dead'." if outbox.dead else ""
    yield Check("outbox", not outbox.dead, f"{sentence}.{advice}")
    if outbox.unanswered:
        sentence = f"{outbox.unanswered} requests for storage commitment wait for an answer."
        yield Check("storage commitment", True, sentence)
    sentence = f"{swept.stray_files} stray segments, {swept.stray_bytes / 1e6:.1f} MB"
    yield Check("spool", True, f"{sentence}; a worker removes them.")


def _models(settings: Settings) -> Iterator[Check]:
    try:
        registry = scan_models(settings.models_dir)
    except PacsightError as error:
        yield Check("models", False, f"{error.code}: {error}")
        return
    for package in registry.models:
        identity = package.identity
        yield Check(f"model {identity.model_id}", True, f"{identity.version}, {identity.name}.")
    for broken in registry.broken:
        yield Check(f"model {broken.folder.name}", False, f"{broken.code}: {broken.message}")
    if not registry.models:
        yield Check("models", False, f"No usable model in {settings.models_dir}; check models_dir.")


def _inference() -> Check:
    missing = [name for name in ("openvino", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        return Check(
            "inference", False, f"Not installed: {', '.join(missing)}; install Pacsight again."
        )
    return Check("inference", True, "OpenVINO and PyTorch are installed.")


def _receiver(settings: Settings) -> Check:
    ours = settings.scp.tls
    ourselves = Destination(
        name="ourselves",
        ae_title=settings.scp.ae_title,
        host="127.0.0.1",
        port=settings.scp.port,
        tls=None
        if ours is None
        else ClientTls(
            authorities=ours.authorities,
            certificate=ours.certificate,
            key=ours.key,
            checks_name=False,
        ),
        user=next(iter(settings.scp.users), None),
    )
    receipt = echo(ourselves, calling_ae_title=settings.scp.ae_title)
    if receipt.is_delivered:
        return Check("receiver", True, f"Answers C-ECHO on port {settings.scp.port}.")
    if receipt.code == "ASSOCIATION_REJECTED":
        sentence = f"Runs on port {settings.scp.port}; it does not admit this machine."
        return Check("receiver", True, sentence)
    if receipt.code == "TLS_FAILED" and ours is not None:
        return _tls_files(ours, settings.scp.port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.scp.host, settings.scp.port))
        except OSError as error:
            return Check(
                "receiver", False, f"Port {settings.scp.port} can't be used: {error.strerror}."
            )
    return Check("receiver", True, f"Not running; port {settings.scp.port} is free.")


def _tls_files(tls: ServerTls, port: int) -> Check:
    try:
        tls.context()
    except TlsError as error:
        return Check("receiver", False, f"{error.code}: {error}")
    sentence = f"Answers with TLS on port {port}; it does not take its own certificate as a sender."
    return Check("receiver", True, sentence)


def _destination(settings: Settings, destination: Destination) -> Check:
    receipt = echo(destination, calling_ae_title=settings.scp.ae_title)
    name = f"destination {destination.name}"
    if receipt.is_delivered:
        return Check(name, True, "Answers C-ECHO.")
    return Check(name, False, f"{receipt.code}: {receipt.message}")
