"""A whole Pacsight in child processes, for tests from the outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine

from dicom_out.delivery import echo
from dicom_out.destination import Destination
from ledger.database import reading
from ledger.queries import find_study, list_studies, study_report
from pacsight.settings import Settings, load_settings, open_ledger
from pacsight.waiting import is_listening
from tests.peers.process import free_port, wait_until

REPOSITORY = Path(__file__).parents[1]
CONVERTED = Path(tempfile.gettempdir()) / "pacsight-test-models"  # by digest: made once
MODELS = Path(tempfile.gettempdir()) / "pacsight-test-checkpoints"
"""One model, so that tests know which results to expect of a study."""
SETTLED = {"done", "failed", "not analysed", "undelivered"}


def one_model() -> Path:
    """Return :data:`MODELS`, filled."""
    MODELS.mkdir(exist_ok=True)
    link, target = MODELS / "cxr-pneumonia", REPOSITORY / "checkpoints" / "cxr-pneumonia"
    if not link.is_symlink() or link.readlink() != target:
        fresh = MODELS / f".{os.getpid()}"
        fresh.symlink_to(target)
        fresh.replace(link)
    return MODELS


class Service:
    """Settings in a folder of its own; roles are started, killed and stopped one by one."""

    def __init__(
        self, folder: Path, *, pacs_port: int, pacs_ae: str = "ORTHANC", **more: Any
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "pacsight.yaml"
        values: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "models_dir": str(one_model()),
            "inference": {"cache_dir": str(CONVERTED)},
            "scp": {"port": free_port(), "disk_reserve_bytes": 0},
            "completeness": {"quiet_s": 0.5, "stack_quiet_s": 0.5, "missing_quiet_s": 1.0},
            "delivery": {"first_retry_s": 0.5, "longest_retry_s": 1.0},
            "destinations": [
                {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs_port}
            ],
        }
        for key, value in more.items():
            values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
        self.config.write_text(yaml.safe_dump(values))
        self.settings: Settings = load_settings(self.config)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ledger: Engine | None = None

    @property
    def port(self) -> int:
        return self.settings.scp.port

    @property
    def itself(self) -> Destination:
        return Destination(name="pacsight", ae_title="PACSIGHT", host="127.0.0.1", port=self.port)

    @property
    def ledger(self) -> Engine:
        if self._ledger is None:
            self._ledger = open_ledger(self.settings)
        return self._ledger

    def start(
        self,
        role: str,
        *options: str,
        program: Sequence[str] = ("-m", "pacsight"),
        wait: bool = True,
    ) -> None:
        """Start ``scp``, ``worker`` or ``serve``; for the receiver wait until it answers."""
        command = [
            sys.executable,
            *program,
            "--verbose",
            "--config",
            str(self.config),
            role,
            *options,
        ]
        with (self.folder / f"{role}.log").open("ab") as log:
            self.processes[role] = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if wait and role != "worker":
            self.wait_for_echo()

    def wait_for_echo(self) -> None:
        wait_until(
            lambda: (
                is_listening(self.port) and echo(self.itself, calling_ae_title="TEST").is_delivered
            ),
            "C-ECHO",
            timeout_s=60,
        )

    def kill(self, role: str) -> None:
        self.processes[role].kill()
        self.processes[role].wait()

    def wait_for_end(self, role: str, timeout_s: float = 60.0) -> int:
        return self.processes[role].wait(timeout_s)

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)
        if self._ledger is not None:
            self._ledger.dispose()

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace")

    def report(self, uid: str) -> dict[str, Any] | None:
        with reading(self.ledger) as session:
            study = find_study(session, uid)
            return None if study is None else study_report(session, study)

    def studies(self) -> list[dict[str, Any]]:
        with reading(self.ledger) as session:
            return list_studies(session)

    def wait_until_settled(
        self, uid: str, *, timeout_s: float = 90.0, revision: int = 1
    ) -> dict[str, Any]:
        """Wait until nothing is under way for a study and return its report."""

        def settled() -> dict[str, Any] | None:
            report = self.report(uid)
            is_settled = report and report["state"] in SETTLED and report["revision"] >= revision
            return report if is_settled else None

        report: dict[str, Any] = wait_until(settled, f"the end of study {uid}", timeout_s=timeout_s)
        return report


StartService = Callable[..., Service]
