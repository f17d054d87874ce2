"""The demo: sample studies through a real Pacsight into a PACS, and what came back."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from pydicom import Dataset, dcmread
from sqlalchemy import Engine, func, select

from dicom_out.delivery import send
from dicom_out.destination import Destination, Outcome
from ledger.database import reading
from ledger.domain import ObjectState
from ledger.queries import list_quarantined, list_studies, study_report
from ledger.tables import Event, ReceivedObject, Study
from pacsight.errors import OperationError
from pacsight.settings import Settings, load_settings, open_ledger
from pacsight.stand_in_pacs import AE_TITLE, free_port, start_pacs
from pacsight.waiting import is_listening, wait_until

MARKER = ".pacsight-demo"
CONVERTED = "converted-models"
"""Kept from one demo to the next."""
START_S = 120.0
PREPARE_S = 900.0
"""For converting every model, once for a machine."""
OBJECT_S = 5.0
MOST_STUDIES = 10_000
SETTLED = {"done", "failed", "held", "not analysed", "undelivered"}


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What became of one study: its report, and the results found in the PACS."""

    report: dict[str, Any]
    results: tuple[Path, ...]
    pictures: tuple[Path, ...]

    @property
    def is_well(self) -> bool:
        """Whether it was analysed and delivered, or refused for a reason."""
        return self.report["state"] in {"done", "not analysed"}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of everything that was sent."""

    studies: list[StudyOutcome]
    quarantined: list[dict[str, Any]]
    """objects that can't be read, as :func:`ledger.queries.list_quarantined` lists them"""


def fresh_folder(folder: Path) -> Path:
    """Make `folder` empty but for converted models, if it is new or an earlier demo's.

    Raises
    ------
    OperationError
        It holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise OperationError(f"{folder} is not a demo's folder; choose an empty one with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != CONVERTED:
            shutil.rmtree(entry)
        elif not entry.is_dir():
            entry.unlink()
    (folder / MARKER).touch()
    return folder


def demonstrate(
    files: Sequence[Path], folder: Path, models_dir: Path, say: Callable[[str], None]
) -> Outcomes:
    """Send `files` to a Pacsight started for it, wait for the results, and fetch them.

    Parameters
    ----------
    folder
        Takes data, logs, the PACS's own files, ``results/`` and ``pictures/``.
    say
        Called with one sentence for each step.

    Raises
    ------
    OperationError
        Pacsight did not start, refused a file, or did not finish in time; the log says why.
    """
    with start_pacs(folder / "pacs") as pacs:
        say(f"PACS: {pacs.name}, port {pacs.port}.")
        config = write_settings(folder, models_dir, pacs.port)
        settings = load_settings(config)
        with running(config, settings, folder / "pacsight.log"):
            say(f"Pacsight: {settings.scp.ae_title}, port {settings.scp.port}.")
            database = open_ledger(settings)
            say("Preparing the models for this machine; the first time it takes a minute or two.")
            if not wait_until(lambda: _is_worker_ready(database), PREPARE_S):
                raise OperationError("The worker did not get ready in time; see pacsight.log.")
            sent = _push(files, settings, say)
            say(f"Objects sent and acknowledged: {sent}.")
            reports = _await(database, sent, say)
            with reading(database) as session:
                quarantined = list_quarantined(session)
            database.dispose()
        return Outcomes(collect(reports, pacs.objects(), folder), quarantined)


def write_settings(folder: Path, models_dir: Path, pacs_port: int) -> Path:
    """Write a settings file for one machine, data below `folder`, results to that PACS."""
    config = folder / "pacsight.yaml"
    values = {
        "data_dir": str(folder / "data"),
        "models_dir": str(models_dir),
        "scp": {"host": "127.0.0.1", "port": free_port()},
        "web": {"port": free_port()},
        "inference": {"cache_dir": str(folder / CONVERTED)},
        "completeness": {"stack_quiet_s": 3.0},  # its sender doesn't pause
        "destinations": [
            {"name": "pacs", "ae_title": AE_TITLE, "host": "127.0.0.1", "port": pacs_port}
        ],
    }
    config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return config


def ourselves(settings: Settings) -> Destination:
    """Return the address of the Pacsight that has these settings."""
    return Destination(
        name="pacsight", ae_title=settings.scp.ae_title, host="127.0.0.1", port=settings.scp.port
    )


@contextmanager
def running(config: Path, settings: Settings, log: Path) -> Iterator[None]:
    """Run ``pacsight serve`` for as long as the context lasts; it is ready when that begins.

    Raises
    ------
    OperationError
        It did not start; the log says why.
    """
    command = [sys.executable, "-m", "pacsight", "--verbose", "--config", str(config), "serve"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            ready = wait_until(
                lambda: process.poll() is not None or is_listening(settings.scp.port),
                START_S,
            )
            if not ready or process.poll() is not None:
                raise OperationError(f"Pacsight did not start; see {log}.")
            yield
        finally:
            process.terminate()
            process.wait(40)


def _is_worker_ready(database: Engine) -> bool:
    with reading(database) as session:
        query = select(Event.id).where(Event.action == "worker.ready").limit(1)
        return session.scalar(query) is not None


def _push(files: Sequence[Path], settings: Settings, say: Callable[[str], None]) -> int:
    receipts = send(files, ourselves(settings), calling_ae_title="DEMO")
    for receipt in receipts:
        if receipt.outcome is Outcome.SKIPPED:
            say(f"{receipt.path}: {receipt.code}: {receipt.message}")
        elif not receipt.is_delivered:
            raise OperationError(f"A file was not taken: {receipt.code}: {receipt.message}")
    sent = sum(receipt.is_delivered for receipt in receipts)
    if not sent:
        raise OperationError("Nothing could be sent; 'pacsight analyze' takes PNG and JPG.")
    return sent


def _await(database: Engine, objects: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Wait until every object is read and every study settled."""
    said: set[int] = {0}

    def all_settled() -> bool:
        unread, studies = _progress(database)
        settled = sum(study["state"] in SETTLED for study in studies)
        if settled not in said:
            said.add(settled)
            say(f"{settled} of {len(studies)} studies settled.")
        return not unread and settled == len(studies)

    if not wait_until(all_settled, START_S + objects * OBJECT_S):
        raise OperationError("Not every study was finished in time; see pacsight.log.")
    return _reports(database)


def _progress(database: Engine) -> tuple[int, list[dict[str, Any]]]:
    with reading(database) as session:
        unread = session.scalar(
            select(func.count()).where(ReceivedObject.state == ObjectState.RECEIVED)
        )
        return unread or 0, list_studies(session, limit=MOST_STUDIES)


def _reports(database: Engine) -> list[dict[str, Any]]:
    with reading(database) as session:
        studies = session.scalars(select(Study).order_by(Study.id).limit(MOST_STUDIES)).all()
        return [study_report(session, study) for study in studies]


def collect(
    reports: Sequence[dict[str, Any]], held: Iterable[bytes], folder: Path
) -> list[StudyOutcome]:
    """Write what the PACS holds into ``results/`` and ``pictures/``, sorted by study and model.

    Parameters
    ----------
    reports
        As :func:`ledger.queries.study_report` makes them.
    held
        The PACS's objects, as Part 10 files.
    """
    by_study: dict[str, list[tuple[bytes, Dataset]]] = {}
    for data in held:
        dataset = dcmread(io.BytesIO(data))
        by_study.setdefault(dataset.StudyInstanceUID, []).append((data, dataset))
    outcomes = []
    for number, report in enumerate(reports, start=1):
        results: list[Path] = []
        pictures = []
        models = _models_by_result(report)
        for data, dataset in by_study.get(report["study_instance_uid"], []):
            name = f"study-{number}-{models[dataset.SOPInstanceUID]}-{dataset.Modality.lower()}"
            name += f"-{len(results) + 1:02d}"
            results.append(_write(folder / "results" / f"{name}.dcm", data))
            if "PixelData" in dataset:
                pictures.append(_write_picture(folder / "pictures" / f"{name}.png", dataset))
        outcomes.append(StudyOutcome(report, tuple(results), tuple(pictures)))
    return outcomes


def _models_by_result(report: dict[str, Any]) -> dict[str, str]:
    return {
        result["sop_instance_uid"]: decision["model"]
        for revision in report["revisions"]
        for decision in revision["decisions"]
        for result in decision["results"]
    }


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _write_picture(path: Path, dataset: Dataset) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(dataset.pixel_array).save(path)
    return path
