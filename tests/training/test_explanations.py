"""Heatmaps of models whose reasons are known: one looks at the square, one beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from inference.config import InferenceConfig
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from ledger.domain import Code, Finding, Heatmap, ModelIdentity, Prediction
from tests.training.conftest import Cli
from tests.training.test_detection import SPEC, write_boxed
from training import explanations
from training.boxed_data import load_boxed
from training.errors import ExplanationError
from training.explanation_card import explanation_section
from training.explanations import deletion, pointing_game
from training.progress import Silent

MODEL = ModelIdentity("toy", "1.0.0", "0" * 64)


class SquareModel:
    """Its probability is how bright the brightest part is; `is_honest`: and it shows that part."""

    is_honest = True
    gives_heat = True

    def __init__(self, *_: object) -> None:
        pass

    def predict(self, model_id: str, image: SourceImage) -> Prediction:
        bright = float(np.clip((np.sort(image.array, axis=None)[-150:].mean() - 0.4) * 2, 0, 1))
        heat = image.array if self.is_honest else 1.0 - image.array
        finding = Finding("Square", Code("1", "99TEST", "Square"), bright, 0.5)
        heatmap = Heatmap(heat.astype(np.float32), "Square", "last") if self.gives_heat else None
        return Prediction(MODEL, ("",), (finding,), heatmap, 0.0)


class BlindModel(SquareModel):
    is_honest = False


class SilentModel(SquareModel):
    gives_heat = False


class Toy:
    class manifest:
        id = "toy"


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxed(tmp_path_factory.mktemp("squares") / "data")


def measure(monkeypatch: pytest.MonkeyPatch, model: type, data: Path) -> tuple[dict, dict]:
    monkeypatch.setattr(explanations, "ModelServer", model)
    monkeypatch.setattr(explanations, "Registry", lambda models: models)
    package: ModelPackage = Toy  # type: ignore[assignment]  # only its id is asked for
    samples = load_boxed(data, SPEC, 0)
    pictures = [item.sample for item in samples]
    return (
        pointing_game(package, InferenceConfig(), samples, "squares", Silent()),
        deletion(package, InferenceConfig(), pictures, "squares", Silent()),
    )


def test_faithful_heatmaps(monkeypatch: pytest.MonkeyPatch, squares: Path) -> None:
    pointing, lost = measure(monkeypatch, SquareModel, squares)
    assert pointing["n"] == 12  # of 16, four have nothing to find
    assert pointing["hits"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert 0.05 < pointing["chance"] < 0.25
    assert pointing["heat"]["value"] > 2 * pointing["chance"]
    assert lost["n"] == 12
    assert lost["mean_lost"]["value"] > 0.2
    assert lost["mean_lost"]["ci95"][0] > lost["mean_lost_elsewhere"]["ci95"][1]


def test_heatmaps_beside_the_point(monkeypatch: pytest.MonkeyPatch, squares: Path) -> None:
    pointing, lost = measure(monkeypatch, BlindModel, squares)
    assert pointing["hits"]["value"] == 0.0
    assert lost["mean_lost"]["value"] <= lost["mean_lost_elsewhere"]["value"]


def test_models_without_heatmaps(monkeypatch: pytest.MonkeyPatch, squares: Path) -> None:
    with pytest.raises(ExplanationError, match="no heatmaps"):
        measure(monkeypatch, SilentModel, squares)


def test_pointing_needs_boxes(monkeypatch: pytest.MonkeyPatch, squares: Path) -> None:
    monkeypatch.setattr(explanations, "ModelServer", SquareModel)
    with pytest.raises(ExplanationError, match="has boxes"):
        pointing_game(Toy, InferenceConfig(), [], "none", Silent())  # type: ignore[arg-type]


def test_card_says_what_was_measured(monkeypatch: pytest.MonkeyPatch, squares: Path) -> None:
    pointing, lost = measure(monkeypatch, SquareModel, squares)
    text = explanation_section({"explanation": {"pointing_game": pointing, "deletion": lost}})
    assert text.startswith("## Are the heatmaps faithful?")
    assert "1.000 (1.000 to 1.000)" in text
    assert text.count("\n| ") == 5
    assert explanation_section({}) == ""


def test_command_measures_and_saves(
    cli: Cli, tmp_path: Path, models_dir: Path, data_dir: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(models_dir, models)
    done = cli(
        "models",
        "explain-check",
        "spots",
        "--models",
        models,
        "--data",
        data_dir,
        "--save",
        "--json",
    )
    assert done.status == 0, done.err
    seen = json.loads(done.out)
    assert seen.pop("model") == "spots"
    assert seen["deletion"]["data"] == "data val"
    assert json.loads((models / "spots/metrics.json").read_text())["explanation"] == seen
    assert "Are the heatmaps faithful?" in (models / "spots/MODEL_CARD.md").read_text()
    missing = cli("models", "explain-check", "none", "--models", models, "--data", data_dir)
    assert missing.status == 1
    assert "There is no model 'none'" in missing.err
