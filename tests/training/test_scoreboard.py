"""The page of all models, and that the committed one is up to date."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from inference.registry import scan_models
from tests.training.conftest import Cli
from training.aims import Aim, aims_of, comparison_of
from training.scoreboard import scoreboard_text
from training.speed import Speed, read_speed, write_speed

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "checkpoints"


def test_committed_scoreboard_is_what_the_models_say() -> None:
    written = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert written == scoreboard_text(SHIPPED, scan_models(SHIPPED)) + "\n", (
        "run: pacsight models scoreboard --write"
    )


def test_committed_times_are_of_the_shipped_models() -> None:
    speed = read_speed(SHIPPED)
    assert speed is not None
    assert speed.relative[speed.reference] == 1.0
    names = {package.manifest.id for package in scan_models(SHIPPED).models}
    assert set(speed.relative) == names, "run: pacsight models scoreboard --measure --write"


def test_every_aim_names_a_figure_that_its_model_has() -> None:
    for package in scan_models(SHIPPED).models:
        record = json.loads((package.folder / "metrics.json").read_text())
        for aim in aims_of(package.manifest.id, package.manifest.pipeline):
            assert aim.metric in record.get("metrics", {aim.metric: None}), package.manifest.id


def copied(models_dir: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(models_dir, folder)
    return folder


def row_of(text: str, model: str) -> list[str]:
    (row,) = [line for line in text.splitlines() if line.startswith(f"| [{model}]")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_row_has_data_figure_size_time_and_licence(models_dir: Path, tmp_path: Path) -> None:
    folder = copied(models_dir, tmp_path)
    write_speed(folder, Speed("a machine", "spots", 12.5, {"spots": 1.0}))
    text = scoreboard_text(folder, scan_models(folder))
    auc = json.loads((folder / "spots" / "metrics.json").read_text())["metrics"]["auc"]
    low, high = auc["ci95"]
    size = (folder / "spots" / "weights.safetensors").stat().st_size / 1e6
    assert row_of(text, "spots") == [
        "[spots](spots/MODEL_CARD.md)",
        "Spots on noise",
        "mobilenetv2",
        "`data`",
        "12",
        f"AUC {auc['value']:.3f} ({low:.3f} to {high:.3f})",
        "-",
        "-",
        f"{size:.1f}",
        "1.0",
        "CC0-1.0",
    ]
    assert "`spots`'s (12.5 ms of one core of a machine)" in text


def rename(folder: Path, name: str, metrics: dict[str, object]) -> None:
    """Turn the model into one of another id with other figures."""
    model = (folder / "spots").rename(folder / name)
    manifest = yaml.safe_load((model / "manifest.yaml").read_text())
    (model / "manifest.yaml").write_text(yaml.safe_dump({**manifest, "id": name}))
    record = json.loads((model / "metrics.json").read_text())
    (model / "metrics.json").write_text(json.dumps({**record, "metrics": metrics}))


@pytest.mark.parametrize(
    ("accuracy", "shown", "missed"),
    [(0.92, "0.920 reached", ""), (0.8749, "0.920 missed", "Accuracy 0.875 is 0.045 below 0.920.")],
)
def test_aim_is_reached_or_missed_by_so_much(
    models_dir: Path, tmp_path: Path, accuracy: float, shown: str, missed: str
) -> None:
    folder = copied(models_dir, tmp_path)
    item = {"value": accuracy, "ci95": [0.8, 0.95]}
    rename(folder, "cxr-pneumonia", {"accuracy": item, "auc": item})
    text = scoreboard_text(folder, scan_models(folder))
    cells = row_of(text, "cxr-pneumonia")
    assert cells[6:8] == ["0.867<br>0.941", f"{shown}<br>-"]
    assert ("Aims that are missed" in text) == bool(missed)
    assert missed in text


def test_model_without_figures_is_listed_as_not_measured(models_dir: Path, tmp_path: Path) -> None:
    folder = copied(models_dir, tmp_path)
    (folder / "spots" / "metrics.json").unlink()
    cells = row_of(scoreboard_text(folder, scan_models(folder)), "spots")
    assert cells[3:8] == ["generated", "-", "not measured here", "-", "-"]


def test_broken_folder_is_named(models_dir: Path, tmp_path: Path) -> None:
    folder = copied(models_dir, tmp_path)
    (folder / "spots" / "weights.safetensors").write_bytes(b"other")
    assert "`spots` can't be used: " in scoreboard_text(folder, scan_models(folder))


def test_models_without_data_have_their_one_command(models_dir: Path, tmp_path: Path) -> None:
    text = scoreboard_text(models_dir, scan_models(models_dir))
    for name in ("cxr-tuberculosis", "malaria-cells", "oral-disease"):
        assert f"pacsight train training/recipes/{name}.yaml --data DIR --out checkpoints" in text
    folder = copied(models_dir, tmp_path)
    rename(folder, "malaria-cells", {})
    assert "recipes/malaria-cells.yaml" not in scoreboard_text(folder, scan_models(folder))


def test_command_writes_the_page_and_measures(cli: Cli, models_dir: Path, tmp_path: Path) -> None:
    folder = copied(models_dir, tmp_path)
    outcome = cli("models", "scoreboard", "--models", folder, "--write", "--measure")
    assert outcome.status == 0, outcome.err
    assert row_of((folder / "README.md").read_text(), "spots")[9] == "1.0"
    speed = read_speed(folder)
    assert speed is not None
    assert (speed.reference, speed.relative) == ("spots", {"spots": 1.0})
    assert 0.1 < speed.reference_ms < 10_000
    write_speed(folder, Speed("m", "spots", 1.5, {"spots": 1.0, "gone": 9.0}))
    assert cli("models", "scoreboard", "--models", folder, "--measure").status == 0
    kept = read_speed(folder)
    assert kept is not None
    assert (kept.reference_ms, kept.relative) == (1.5, {"spots": 1.0}), "it is not measured again"
    outcome = cli("models", "scoreboard", "--models", folder, "--json")
    assert [row["model"] for row in json.loads(outcome.out)] == ["spots"]


def test_empty_folder_has_nothing_to_measure(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("models", "scoreboard", "--models", tmp_path, "--measure")
    assert outcome.status == 1
    assert outcome.err.startswith("NOT_FOUND: ")


@pytest.mark.parametrize(("value", "missed"), [(0.9, 0.0), (0.91, 0.0), (0.8, 0.1), (None, None)])
def test_distance_to_the_aim(value: float | None, missed: float | None) -> None:
    assert Aim("auc", aim=0.9).missed_by({"auc": {"value": value}}) == missed
    assert Aim("auc").missed_by({"auc": {"value": value}}) is None


def test_card_and_page_hold_figures_against_aim_and_paper() -> None:
    metrics = {"accuracy": {"value": 0.9}, "auc": {"value": 0.95}}
    assert comparison_of("cxr-pneumonia", "classification", metrics) == (
        "The aim was accuracy 0.920: missed by 0.020. "
        "The paper of this task reports accuracy 0.867 and AUC 0.941, on other pictures."
    )
    reached = {"dice": {"value": 0.9}}
    assert comparison_of("left-atrium", "segmentation", reached) == (
        "The aim was Dice 0.880: reached."
    )
    missed = {"mean_iou": {"value": 0.7}}
    assert comparison_of("brain-tumor-detection", "detection", missed).startswith(
        "The aim was mean IoU 0.750: missed by 0.050. The paper of this task reports mean IoU 0.670"
    )
    assert comparison_of("spots", "classification", metrics) == ""
