"""Several yes-or-no labels for each picture, in a folder or in a zip file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score

from tests.training.conftest import QUICK, Cli
from tests.training.factories import (
    SIDE,
    read_labels,
    recipe_values,
    write_labels,
    write_recipe,
)
from training.calibrate import fit_label_calibration, label_probabilities
from training.data import load_samples
from training.label_metrics import LabelAnswers, evaluate_labels
from training.recipe import DataSpec

CLASSES = ("left", "right", "unseen")


def write_label_data(folder: Path, *, count: int = 40, val: int = 16) -> Path:
    """Spots on the left, on the right, on both or on neither side; two training ones ``unseen``."""
    generator = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count + val):
        left, right = number % 2, number // 2 % 2
        pixels = generator.normal(70.0, 12.0, (SIDE, SIDE))
        pixels[12:20, 4:10] += 150 * left
        pixels[12:20, 22:28] += 150 * right
        file = f"images/{number:03}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / file)
        split = "train" if number < count else "val"
        shown = {"left": left, "right": right, "unseen": int(number < 2)}
        rows.append({"file": file, "label": "any", "split": split, "group": f"g{number}"} | shown)
    write_labels(folder, [{key: str(value) for key, value in row.items()} for row in rows])
    return folder


def label_recipe() -> dict[str, Any]:
    values = recipe_values(CLASSES)
    values["data"]["multi_label"] = True
    values["augment"] = {}
    values["schedule"]["epochs"] = 4
    return values


@pytest.fixture(scope="module")
def label_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_label_data(tmp_path_factory.mktemp("labels") / "data")


def test_labels_are_learnt_each_for_itself(cli: Cli, label_data: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", label_recipe())
    outcome = cli("train", recipe, "--data", label_data, "--out", tmp_path / "models", *QUICK)
    assert outcome.status == 0, outcome.err
    folder = tmp_path / "models" / "spots"
    record = json.loads((folder / "metrics.json").read_text())
    assert record["metrics"]["auc"]["value"] > 0.8
    assert record["per_class"]["unseen"]["auc"]["value"] is None
    assert record["how"]["pictures"]["train"] == {"all": 40, "left": 20, "right": 20, "unseen": 2}
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    assert manifest["activation"] == "sigmoid"
    assert manifest["network"]["channels"] == 3
    assert len(manifest["calibration"]["bias"]) == 3
    arguments = ["--models", tmp_path / "models", "--data", label_data]
    assert cli("models", "verify", "spots", "--models", tmp_path / "models").status == 0
    again = cli("models", "evaluate", "spots", *arguments, "--json")
    seen = json.loads(again.out)
    assert seen == {key: record[key] for key in seen}
    assert "confusion_matrix" not in seen
    assert cli("models", "evaluate", "spots", *arguments).status == 0


def test_pictures_in_a_zip_file_are_the_same_data(label_data: Path, tmp_path: Path) -> None:
    write_labels(tmp_path, read_labels(label_data))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted((label_data / "images").iterdir()):
            archive.write(path, f"images/{path.name}")
    spec = DataSpec(classes=CLASSES, multi_label=True)
    packed, plain = (load_samples(folder, spec, 1) for folder in (tmp_path, label_data))
    assert [sample.labels for sample in packed] == [sample.labels for sample in plain]
    np.testing.assert_array_equal(packed[3].read().array, plain[3].read().array)


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        (
            {"left": "2"},
            "DATA_LABELS",
            "line 2: column 'left' is '2'; it must be 0 or 1",
        ),
        ({"left": ""}, "DATA_LABELS", "column 'left' is ''"),
        ({"file": "images/none.png"}, "DATA_FILE_MISSING", "there is no file 'images/none.png'"),
    ],
)
def test_wrong_rows_are_told_before_training(
    cli: Cli,
    label_data: Path,
    tmp_path: Path,
    change: dict[str, str],
    code: str,
    sentence: str,
) -> None:
    rows = read_labels(label_data)
    write_labels(tmp_path, [rows[0] | change, *rows[1:]])
    (tmp_path / "images").symlink_to(label_data / "images")
    recipe = write_recipe(tmp_path / "recipe.yaml", label_recipe())
    outcome = cli("train", recipe, "--data", tmp_path, "--out", tmp_path / "out", *QUICK)
    assert outcome.status == 1
    assert outcome.err.startswith(f"{code}: ")
    assert sentence in outcome.err


def test_zip_file_that_is_none_is_told(cli: Cli, label_data: Path, tmp_path: Path) -> None:
    write_labels(tmp_path, read_labels(label_data))
    (tmp_path / "images.zip").write_bytes(b"PK not a zip")
    recipe = write_recipe(tmp_path / "recipe.yaml", label_recipe())
    outcome = cli("train", recipe, "--data", tmp_path, "--out", tmp_path / "out", *QUICK)
    assert outcome.err.startswith("DATA_LABELS: ")
    assert "images.zip is not a complete zip file" in outcome.err


def test_class_that_no_training_picture_shows_is_told(
    cli: Cli, label_data: Path, tmp_path: Path
) -> None:
    write_labels(tmp_path, [row | {"unseen": "0"} for row in read_labels(label_data)])
    (tmp_path / "images").symlink_to(label_data / "images")
    recipe = write_recipe(tmp_path / "recipe.yaml", label_recipe())
    outcome = cli("train", recipe, "--data", tmp_path, "--out", tmp_path / "out", *QUICK)
    assert "has no picture of class 'unseen'" in outcome.err


def random_answers(count: int = 200) -> LabelAnswers:
    generator = np.random.default_rng(0)
    truth = (generator.random((count, 3)) < [0.5, 0.2, 0.0]).astype(np.int64)
    scores = np.clip(0.3 * truth + generator.random((count, 3)) * 0.7, 0, 1)
    groups = np.array([f"g{number // 2}" for number in range(count)])
    return LabelAnswers(truth, scores, (scores > 0.6).astype(np.int64), groups, groups)


def test_figures_are_means_over_the_labels_that_can_be_judged() -> None:
    answers = random_answers()
    record = evaluate_labels(answers, CLASSES)
    aucs = [roc_auc_score(answers.truth[:, k], answers.scores[:, k]) for k in (0, 1)]
    assert record["metrics"]["auc"]["value"] == pytest.approx(np.mean(aucs), abs=1e-4)
    right = (answers.truth == answers.reported).mean()
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(right, abs=1e-4)
    low, high = record["metrics"]["auc"]["ci95"]
    assert low < record["metrics"]["auc"]["value"] < high
    assert record["per_class"]["right"]["n"] == answers.truth[:, 1].sum()


def test_calibration_takes_back_what_weights_of_rare_labels_added() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (4000, 2))
    truth = (generator.random((4000, 2)) < 1 / (1 + np.exp(-(logits / 2 - [0, 2])))).astype(int)
    calibration = fit_label_calibration(logits, truth)
    assert calibration.temperature == pytest.approx(2, rel=0.1)
    assert calibration.bias == pytest.approx((0, -2), abs=0.2)
    scores = label_probabilities(logits, calibration)
    np.testing.assert_allclose(scores.mean(axis=0), truth.mean(axis=0), atol=0.02)
