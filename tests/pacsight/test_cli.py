"""The command line: exit statuses, one sentence for each error, JSON for programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import Engine

from ledger.database import transaction
from ledger.domain import DeliveryState
from ledger.tables import Delivery
from pacsight.samples import chest_radiograph, ct_series
from pacsight.settings import Settings, load_settings, open_ledger
from scp.config import ListenerConfig
from scp.listener import Listener
from tests.peers.certificates import Authority
from tests.service import CONVERTED, REPOSITORY, one_model

Run = Callable[..., subprocess.CompletedProcess[str]]
MODELS = one_model()


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "pacsight.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'data'}\n"
        f"models_dir: {MODELS}\n"
        f"inference: {{cache_dir: {CONVERTED}}}\n"
        "scp: {port: 1}\n"
    )
    return path


@pytest.fixture
def run(settings_file: Path, tmp_path: Path) -> Run:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "pacsight",
                "--config",
                str(settings_file),
                *map(str, arguments),
            ],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("studies", "show", "1.2.3"), 1, "NOT_FOUND: Study 1.2.3 was never received"),
        (("studies", "replay", "1.2.3"), 1, "NOT_FOUND: Study 1.2.3 holds nothing"),
        (("deliveries", "retry", "7"), 1, "NOT_FOUND: There is no undelivered delivery 7"),
        (("worker", "--queues", "gpu"), 2, "unknown queue gpu"),
        (("send", ".", "--to", "PACS@nowhere"), 2, "write AET@HOST:PORT"),
        (("send", ".", "--to", "nowhere"), 1, "NOT_FOUND: There is no destination 'nowhere'"),
        (("analyze", "missing.dcm"), 2, "does not exist"),
        (("analyze", ".", "--model", "no-such"), 1, "NOT_FOUND: No model no-such"),
        (("nonsense",), 2, "No such command"),
    ],
)
def test_errors_are_one_sentence_and_a_status(
    run: Run, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    done = run(*arguments)
    assert done.returncode == status
    assert sentence in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_wrong_settings_are_wrong_usage(run: Run, settings_file: Path) -> None:
    settings_file.write_text("dta_dir: x\n")
    done = run("studies", "list")
    assert done.returncode == 2
    assert done.stderr == (
        "SETTINGS_INVALID: Unknown setting 'dta_dir'. Did you mean 'data_dir'?\n"
    )


def test_lists_of_a_new_installation_are_empty(run: Run) -> None:
    assert json.loads(run("studies", "list", "--json").stdout) == []
    assert json.loads(run("studies", "list", "--quarantined", "--json").stdout) == []
    assert json.loads(run("deliveries", "list", "--json").stdout) == []


def test_doctor_names_what_is_wrong_and_fails(run: Run, tmp_path: Path) -> None:
    done = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 1
    assert checks["ledger"]["is_ok"]
    assert checks["model cxr-pneumonia"]["is_ok"]
    assert not checks["destinations"]["is_ok"]


def test_doctor_reports_a_broken_model_and_a_silent_destination(
    run: Run, settings_file: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    (models / "broken").mkdir(parents=True)
    text = settings_file.read_text().replace(str(MODELS), str(models))
    settings_file.write_text(
        text + "destinations: [{name: pacs, ae_title: PACS, host: 127.0.0.1, port: 1}]\n"
    )
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["model broken"]["message"].startswith("MODEL_MANIFEST_MISSING")
    assert checks["destination pacs"]["message"].startswith("DESTINATION_UNREACHABLE")
    settings_file.write_text(text.replace(str(models), str(tmp_path / "nowhere")))
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["models"]["message"].startswith("MODELS_FOLDER_UNREADABLE")
    assert "destinations" in checks  # what comes after is looked at too


def test_send_names_the_files_that_it_leaves_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.dcm").write_text("Dear colleague")
    done = run("send", tmp_path / "letter.dcm", "--to", "PACS@127.0.0.1:1")
    assert done.returncode == 1
    assert f"{tmp_path / 'letter.dcm'}: NOT_DICOM: The file is no DICOM file" in done.stderr


def test_route_explains_every_answer(run: Run, tmp_path: Path) -> None:
    chest_radiograph(1, consolidation=True).save_as(tmp_path / "dx.dcm")
    shutil.copy(tmp_path / "dx.dcm", tmp_path / "copy.dcm")  # the same instance counts once
    ct_series(2)[0].save_as(tmp_path / "ct.dcm")
    done = run("route", *(tmp_path / f"{name}.dcm" for name in ("copy", "dx", "ct")), "--json")
    rows = {Path(row["input"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0
    assert rows["dx.dcm"]["applies"]
    assert rows["dx.dcm"]["message"].startswith("Takes 1 of 1 images: modality DX, ")
    assert rows["ct.dcm"]["code"] == "MODALITY_NOT_ACCEPTED"
    assert run("route", tmp_path / "ct.dcm").returncode == 1


def test_analyze_gives_findings_heatmap_and_dicom_results(run: Run, tmp_path: Path) -> None:
    source = chest_radiograph(1, consolidation=True)
    source.save_as(tmp_path / "dx.dcm")
    model = ("--model", "cxr-pneumonia")
    done = run("analyze", tmp_path / "dx.dcm", *model, "--out", tmp_path / "out", "--json")
    row = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert set(row) == {
        "input", "model", "version", "refused", "findings", "boxes", "segments", "heatmap",
        "results", "seconds",
    }  # fmt: skip
    (finding,) = row["findings"]
    assert set(finding) == {"label", "probability", "threshold", "positive"}
    assert finding["positive"] == (finding["probability"] >= finding["threshold"])
    results = [dcmread(path) for path in row["results"]]
    assert [result.Modality for result in results] == ["SR", "OT", "DOC"]
    assert {str(result.StudyInstanceUID) for result in results} == {str(source.StudyInstanceUID)}
    assert Path(row["heatmap"]).read_bytes().startswith(b"\x89PNG")


def test_analyze_keeps_files_of_one_name_apart(run: Run, tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"study{seed}").mkdir()
        dataset = chest_radiograph(seed, consolidation=False, rows=400, columns=300)
        dataset.save_as(tmp_path / f"study{seed}" / "0001.dcm")
    paths = (tmp_path / "study1", tmp_path / "study2")
    done = run("analyze", *paths, "--out", tmp_path / "out", "--json")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        source = dcmread(row["input"], stop_before_pixels=True)
        for path in row["results"]:
            assert dcmread(path).StudyInstanceUID == source.StudyInstanceUID
    assert done.stdout.count("0001.dcm") >= 2


def test_analyze_takes_a_picture_when_a_model_is_chosen(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    from inference.reading import read_image

    chest_radiograph(3, consolidation=False).save_as(tmp_path / "dx.dcm")
    Image.fromarray(read_image(tmp_path / "dx.dcm").display).save(tmp_path / "dx.png")
    unasked = json.loads(run("analyze", tmp_path / "dx.png", "--json").stdout.splitlines()[0])
    assert unasked["refused"]["code"] == "MODALITY_NOT_ACCEPTED"
    command = ("analyze", tmp_path / "dx.png", tmp_path / "dx.dcm", "--model", "cxr-pneumonia")
    rows = [json.loads(line) for line in run(*command, "--json").stdout.splitlines()]
    picture, dicom = (row["findings"][0]["probability"] for row in rows)
    assert picture == pytest.approx(dicom, abs=0.02)  # 8 bits instead of 12


def _undelivered(settings: Settings) -> int:
    from tests.pacsight.test_outbox import add_result

    database = open_ledger(settings)
    with transaction(database) as session:
        row = add_result(session, "1.2.3.4")
        row.state, row.attempts = DeliveryState.DEAD, 3
        session.flush()
        identity = row.id
    database.dispose()
    return identity


def test_dead_letter_is_listed_and_retried(run: Run, settings_file: Path) -> None:
    settings = load_settings(settings_file)
    identity = _undelivered(settings)
    (listed,) = json.loads(run("deliveries", "list", "--state", "dead", "--json").stdout)
    assert listed["id"] == identity
    assert run("deliveries", "retry", str(identity)).returncode == 0
    database = open_ledger(settings)
    with transaction(database) as session:
        row: Any = session.get_one(Delivery, identity)
        assert (row.state, row.attempts) == (DeliveryState.PENDING, 3)
        assert row.next_attempt_at is not None
    database.dispose()


def test_installation_runs_from_any_folder(tmp_path: Path) -> None:
    program = shutil.which("pacsight", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run(
        [program, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pacsight ")


def test_doctor_and_send_call_a_receiver_through_tls(
    run: Run, tmp_path: Path, sqlite_engine: Engine
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue()
    tls = {"certificate": str(certificate), "key": str(key), "authorities": str(authority.file)}
    users = [{"name": "ct01", "password": "right"}]
    config = ListenerConfig.model_validate(
        {"host": "127.0.0.1", "port": 0, "tls": tls, "users": users}
    )
    with Listener(config, tmp_path / "spool", sqlite_engine, "test") as listener:
        scp = {"port": listener.port, "tls": tls, "users": users}
        peer = {"name": "pacs", "ae_title": "PACSIGHT", "host": "127.0.0.1", "port": listener.port}
        destination = {**peer, "tls": tls, "user": users[0]}
        settings = {"scp": scp, "models_dir": str(MODELS), "destinations": [destination]}
        (tmp_path / "pacsight.yaml").write_text(json.dumps(settings))
        (check,) = [
            check
            for check in json.loads(run("doctor", "--json").stdout)
            if check["name"] == "receiver"
        ]
        chest_radiograph(1, consolidation=True).save_as(tmp_path / "dx.dcm")
        sent = run("send", tmp_path / "dx.dcm", "--to", "pacs", "--json")
        address = f"PACSIGHT@127.0.0.1:{listener.port}"
        in_the_clear = run("send", tmp_path / "dx.dcm", "--to", address)
    assert check["message"] == f"Answers C-ECHO on port {listener.port}."
    assert [row["code"] for row in json.loads(sent.stdout)] == ["STORED"]
    assert in_the_clear.returncode == 1
