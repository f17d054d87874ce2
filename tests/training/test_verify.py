"""``models verify``, ``list`` and ``show``: whole folders pass, harmed ones say how."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.manifest import load_manifest
from tests.training.conftest import Cli
from training.card import takes
from training.errors import GoldenCaseError
from training.golden import golden_picture, read_golden, wave_pattern
from training.recipe import load_recipe
from training.verify import CARD_NAME, check_record, verify_folder

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SHIPPED = sorted(path.parent.name for path in CHECKPOINTS.glob("*/manifest.yaml"))
MAX_BYTES = 12_000_000


def test_trained_checkpoint_is_accepted(cli: Cli, models_dir: Path) -> None:
    outcome = cli("models", "verify", "--models", models_dir, "--json")
    assert outcome.status == 0
    (result,) = json.loads(outcome.out)
    assert result["ok"]
    assert [check["name"] for check in result["checks"]] == [
        "manifest and digest",
        "card and metrics",
        "network",
        "OpenVINO equals torch",
        "golden case",
    ]


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def harm(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")

    return harm


def flip_a_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "check", "detail"),
    [
        (flip_a_byte, "manifest and digest", "MODEL_WEIGHTS_DIGEST"),
        (
            edit("manifest.yaml", "activation:", "activatoin:"),
            "manifest and digest",
            "MODEL_UNKNOWN_KEY",
        ),
        (
            edit("manifest.yaml", "channels: 1", "channels: 2"),
            "network",
            "MODEL_WEIGHTS_MISMATCH",
        ),
        (edit("golden.json", '"Spot": 0.', '"Spot": 1.'), "golden case", "probability differs"),
        (edit("golden.json", '"Spot"', '"Dot"'), "golden case", "labels are not Spot"),
    ],
)
def test_harmed_folder_is_found_out(
    models_dir: Path, tmp_path: Path, harm: Callable[[Path], object], check: str, detail: str
) -> None:
    folder = tmp_path / "spots"
    shutil.copytree(models_dir / "spots", folder)
    harm(folder)
    failed = [seen for seen in verify_folder(folder) if not seen.is_passed]
    assert [seen.name for seen in failed] == [check]
    assert detail in failed[0].detail


def test_missing_card_or_damaged_figures_are_found_out(tmp_path: Path) -> None:
    assert check_record(tmp_path).detail == "MODEL_CARD.md and metrics.json missing"
    (tmp_path / "MODEL_CARD.md").write_text("# Card")
    (tmp_path / "metrics.json").write_text('{"n": ')
    assert check_record(tmp_path).detail == "metrics.json is not valid JSON"
    (tmp_path / "metrics.json").write_text("{}")
    assert check_record(tmp_path).is_passed


def test_missing_or_damaged_golden_case_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(GoldenCaseError, match="is missing"):
        read_golden(tmp_path)
    (tmp_path / "golden.json").write_text('{"kind": "stripes"}')
    with pytest.raises(GoldenCaseError, match="can't be read"):
        read_golden(tmp_path)


def test_verify_of_one_harmed_folder_exits_1(cli: Cli, models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "spots", tmp_path / "spots")
    flip_a_byte(tmp_path / "spots")
    outcome = cli("models", "verify", "spots", "--models", tmp_path)
    assert outcome.status == 1
    assert "FAILED" in outcome.out


def test_list_shows_models_and_broken_folders(cli: Cli, models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "spots", tmp_path / "spots")
    (tmp_path / "empty").mkdir()
    outcome = cli("models", "list", "--models", tmp_path, "--json")
    assert outcome.status == 1
    listed = json.loads(outcome.out)
    assert [row["model"] for row in listed["models"]] == ["spots"]
    assert [(row["model"], row["code"]) for row in listed["broken"]] == [
        ("empty", "MODEL_MANIFEST_MISSING")
    ]


def test_show_prints_the_manifest(cli: Cli, models_dir: Path) -> None:
    outcome = cli("models", "show", "spots", "--models", models_dir, "--json")
    assert outcome.status == 0
    assert json.loads(outcome.out)["outputs"][0]["label"] == "Spot"
    assert "outputs[0].label" in cli("models", "show", "spots", "--models", models_dir).out


@pytest.mark.parametrize("command", ["show", "verify"])
def test_unknown_model_is_named_with_those_there_are(
    cli: Cli, models_dir: Path, command: str
) -> None:
    outcome = cli("models", command, "dots", "--models", models_dir)
    assert outcome.status == 1
    assert outcome.err.startswith("NOT_FOUND: There is no model 'dots'")
    assert "spots" in outcome.err


def test_model_without_recipe_cant_be_evaluated(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(models_dir / "spots", tmp_path / "spots")
    (tmp_path / "spots" / "recipe.yaml").unlink()
    outcome = cli("models", "evaluate", "spots", "--models", tmp_path, "--data", data_dir)
    assert outcome.status == 1
    assert outcome.err.startswith("MODEL_NO_RECIPE: ")


def test_golden_picture_is_the_same_everywhere() -> None:
    pattern = wave_pattern(3, 48, 40)
    assert pattern.shape == (48, 40)
    assert (int(pattern.min()), int(pattern.max())) == (0, 255)
    assert pattern[::16, ::16].tolist() == GOLDEN_SAMPLES
    assert golden_picture(3, 48, 40).display.tolist() == pattern.tolist()
    assert wave_pattern(4, 48, 40).tolist() != pattern.tolist()


GOLDEN_SAMPLES = [[64, 217, 139], [93, 108, 205], [236, 49, 156]]


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in CHECKPOINTS.glob("*/manifest.yaml")),
    ids=lambda p: p.name,
)
def test_shipped_checkpoint_verifies(folder: Path) -> None:
    assert [check for check in verify_folder(folder) if not check.is_passed] == []
    assert sum(path.stat().st_size for path in folder.iterdir()) < MAX_BYTES
    limits = takes(load_manifest(folder))  # a hand at the manifest forgets the card
    assert f"| Takes | {limits} |" in (folder / CARD_NAME).read_text()


def test_pneumonia_model_is_shipped() -> None:
    record = json.loads((CHECKPOINTS / "cxr-pneumonia" / "metrics.json").read_text())
    assert record["metrics"]["accuracy"]["value"] >= 0.92
    assert record["metrics"]["auc"]["value"] >= 0.97


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in CHECKPOINTS.glob("*/manifest.yaml"))
)
def test_training_again_would_keep_what_a_shipped_model_accepts(folder: str) -> None:
    manifest = load_manifest(CHECKPOINTS / folder)
    shipped = load_recipe(CHECKPOINTS / folder / "recipe.yaml")
    written = load_recipe(CHECKPOINTS.parent / "training/recipes" / f"{folder}.yaml")
    for recipe in (shipped, written):
        assert recipe.report.accepts == manifest.accepts
        assert recipe.report.prefer == manifest.prefer
    assert shipped == written
