"""A long series through a whole ``pacsight serve``, for ``benchmarks.volume --served``.

The series is sent by C-STORE and its results go to a PACS; then the ledger says how long each
stage took, and the kernel how much memory each process ever had.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import yaml
from sqlalchemy import Engine, select

from dicom_out.delivery import send
from ledger.database import reading
from ledger.queries import list_studies
from ledger.tables import Job, Revision
from pacsight.demonstration import ourselves, running, write_settings
from pacsight.settings import load_settings, open_ledger
from pacsight.stand_in_pacs import start_pacs
from pacsight.waiting import wait_until

ROLES = ("receiver_process", "worker", "web", "serve", "Orthanc")
PATIENCE_S = 560.0


Steps = list[tuple[str, float]]


def serve(series: Path, folder: Path, model: Path) -> tuple[Steps, dict[str, float]]:
    """Return the seconds of each step, and the peak memory of each process in GiB."""
    with start_pacs(folder / "pacs") as pacs:
        config = write_settings(folder, _for_ct(model, folder / "models"), pacs.port)
        settings = load_settings(config)
        with running(config, settings, folder / "pacsight.log"):
            database = open_ledger(settings)
            began = time.time()
            receipts = send(sorted(series.iterdir()), ourselves(settings), calling_ae_title="CT01")
            if not all(one.is_delivered for one in receipts):
                raise SystemExit("the series was not taken")
            sent = time.time()
            if not wait_until(lambda: _state(database) in {"done", "failed"}, PATIENCE_S, 0.5):
                raise SystemExit(f"not done in {PATIENCE_S:g} s; see the log")
            if _state(database) == "failed":
                raise SystemExit((folder / "pacsight.log").read_text()[-3000:])
            memory = {
                name: peak
                for process in psutil.Process().children(recursive=True)
                if (name := _role(process))
                for peak in [peak_gib(process.pid)]
            }
            steps = _steps(database, began, sent)
            database.dispose()
    return steps, memory


def _for_ct(model: Path, models: Path) -> Path:
    """Copy a model of MR so that it takes the CT series: what it finds doesn't matter here."""
    shutil.copytree(model, models / model.name)
    path = models / model.name / "manifest.yaml"
    manifest = yaml.safe_load(path.read_text())
    for accepts in manifest["accepts"]:
        accepts["modality"] = ["CT"]
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return models


def _state(database: Engine) -> str:
    with reading(database) as session:
        studies: list[dict[str, Any]] = list_studies(session)
        return str(studies[0]["state"]) if studies else ""


def _steps(database: Engine, began: float, sent: float) -> Steps:
    with reading(database) as session:
        (revision,) = session.scalars(select(Revision)).all()
        jobs = session.scalars(select(Job).order_by(Job.started_at)).all()
    steps = [("C-STORE", sent - began), ("found complete", revision.created_at - sent)]
    at = revision.created_at
    for job in jobs:
        steps.append((str(job.stage), (job.finished_at or at) - at))
        at = job.finished_at or at
    return steps


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((role for role in ROLES if any(word.endswith(role) for word in words)), "")


def peak_gib(pid: int | str = "self") -> float:
    """Return the most memory that a process ever had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024**2
    return 0.0
