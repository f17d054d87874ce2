"""Training through the command line: what comes out, and what happens when it is stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.training.conftest import QUICK, START_WEIGHTS, Cli
from tests.training.factories import recipe_values, write_data, write_recipe
from training.errors import OutputExistsError
from training.fit import Fitted, Trainer, is_finished
from training.log import open_log
from training.package import written_at_once
from training.progress import Silent
from training.recipe import load_recipe
from training.resume import ResumeFile
from training.task import Epoch
from training.tasks.classification import answered, grade_error, open_task


def test_training_learns_and_writes_a_whole_checkpoint(models_dir: Path) -> None:
    folder = models_dir / "spots"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "MODEL_CARD.md",
        "curves.png",
        "golden.json",
        "manifest.yaml",
        "metrics.json",
        "recipe.yaml",
        "weights.safetensors",
    }
    record = json.loads((folder / "metrics.json").read_text())
    assert record["n"] == 12
    assert record["metrics"]["accuracy"]["value"] > 0.9
    assert record["how"]["pictures"]["train"] == {"plain": 20, "spot": 20}
    assert record["how"]["command"].startswith("pacsight train spots.yaml --data data")
    assert [path.name for path in models_dir.iterdir()] == ["spots"]


def test_evaluation_reproduces_the_recorded_figures(
    cli: Cli, models_dir: Path, data_dir: Path
) -> None:
    outcome = cli(
        "models", "evaluate", "spots", "--models", models_dir, "--data", data_dir, "--json"
    )
    assert outcome.status == 0
    result = json.loads(outcome.out)
    record = json.loads((models_dir / "spots" / "metrics.json").read_text())
    assert result == {key: record[key] for key in result}
    assert set(result) == {
        "model",
        "version",
        "split",
        "n",
        "metrics",
        "per_class",
        "per_source",
        "confusion_matrix",
    }


def test_evaluation_prints_tables_for_people(cli: Cli, models_dir: Path, data_dir: Path) -> None:
    outcome = cli("models", "evaluate", "spots", "--models", models_dir, "--data", data_dir)
    assert outcome.status == 0
    assert "spots 0.1.0: 12 pictures of val" in outcome.out
    assert "specificity" in outcome.out


def test_evaluation_of_an_absent_split_is_refused(
    cli: Cli, models_dir: Path, data_dir: Path
) -> None:
    arguments = ["--models", models_dir, "--data", data_dir, "--split", "test"]
    outcome = cli("models", "evaluate", "spots", *arguments)
    assert outcome.status == 1
    assert outcome.err == "DATA_SPLIT: labels.csv has no pictures of split 'test'.\n"


def test_three_classes_become_a_softmax_with_a_finding_each(cli: Cli, tmp_path: Path) -> None:
    classes = ("plain", "dull", "spot")
    data = write_data(tmp_path / "data", count=24, classes=classes)
    values = recipe_values(classes)
    values["schedule"]["epochs"] = 1
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    outcome = cli("train", recipe, "--data", data, "--out", tmp_path / "spots", *QUICK)
    assert outcome.status == 0, outcome.err
    manifest = yaml.safe_load((tmp_path / "spots" / "manifest.yaml").read_text())
    assert manifest["activation"] == "softmax"
    assert [(o["label"], o["channel"]) for o in manifest["outputs"]] == [
        ("Plain", 0),
        ("Dull", 1),
        ("Spot", 2),
    ]
    record = json.loads((tmp_path / "spots" / "metrics.json").read_text())
    assert sum(map(sum, record["confusion_matrix"]["rows"])) == 12


def test_existing_checkpoint_is_never_overwritten(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    before = (models_dir / "spots" / "manifest.yaml").read_bytes()
    recipe = write_recipe(tmp_path / "recipe.yaml", recipe_values())
    outcome = cli("train", recipe, "--data", data_dir, "--out", models_dir)
    assert outcome.status == 1
    assert outcome.err.startswith("OUTPUT_EXISTS: ")
    assert (models_dir / "spots" / "manifest.yaml").read_bytes() == before


def test_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def stop_in_the_middle() -> None:
        with written_at_once(tmp_path / "model") as draft:
            (draft / "manifest.yaml").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_in_the_middle()
    assert list(tmp_path.iterdir()) == []
    with written_at_once(tmp_path / "model") as draft:
        (draft / "manifest.yaml").write_text("whole")
        assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(OutputExistsError), written_at_once(tmp_path / "model"):
        pass


class StopsAfter(Silent):
    """Behaves like Ctrl-C after an epoch, and notes what was said."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)
        if text.startswith(f"Epoch {self.epoch}/"):
            raise KeyboardInterrupt

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[object]:  # type: ignore[override]
        with super().stage(name, total) as advance:
            yield advance


def small_trainer(data_dir: Path, folder: Path, **schedule: float) -> Trainer:
    values = recipe_values()
    values["schedule"] |= {"epochs": 3, **schedule}
    return trainer(values, data_dir, folder)


def trainer(values: dict[str, Any], data_dir: Path, folder: Path) -> Trainer:
    recipe = load_recipe(write_recipe(folder / "recipe.yaml", values))
    task = open_task(recipe, data_dir, START_WEIGHTS, Silent())
    return Trainer(task, recipe, ResumeFile.beside(folder / "spots", "f" * 64))


def same_weights(first: Fitted, second: Fitted) -> bool:
    left, right = first.network.state_dict(), second.network.state_dict()
    return all(torch.equal(left[name], right[name]) for name in left)


def test_stopped_training_resumes_to_the_same_weights(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "once").mkdir()
    (tmp_path / "twice").mkdir()
    whole = small_trainer(data_dir, tmp_path / "once").fit(Silent())
    with pytest.raises(KeyboardInterrupt):
        small_trainer(data_dir, tmp_path / "twice").fit(StopsAfter(1))
    listener = StopsAfter(0)
    resumed = small_trainer(data_dir, tmp_path / "twice").fit(listener)
    assert listener.said[0] == "Resumed after epoch 1."
    assert resumed.history == whole.history
    assert same_weights(resumed, whole)


def test_damaged_resume_file_starts_anew(data_dir: Path, tmp_path: Path) -> None:
    trainer = small_trainer(data_dir, tmp_path, epochs=1)
    trainer.resume.path.write_bytes(b"PK\x03\x04 not a state")
    assert len(trainer.fit(Silent()).history) == 1


def test_training_ends_elsewhere_and_the_model_is_made_here(
    cli: Cli, data_dir: Path, tmp_path: Path
) -> None:
    elsewhere, here = tmp_path / "elsewhere", tmp_path / "here"
    here.mkdir()
    recipe = write_recipe(tmp_path / "recipe.yaml", recipe_values())
    arguments = ("train", recipe, "--data", data_dir, *QUICK, "--epochs", "1")
    trained = cli(*arguments, "--out", elsewhere, "--fit-only")
    assert trained.status == 0, trained.err
    (state,) = elsewhere.iterdir()
    assert str(state) in trained.out.replace("\n", "")
    state.rename(here / state.name)
    made = cli(*arguments, "--out", here)
    assert made.status == 0, made.err
    assert "Resumed after epoch 1." in made.out + made.err
    assert [path.name for path in here.iterdir()] == ["spots"]
    assert cli("models", "verify", "--models", here).status == 0


@pytest.mark.parametrize(
    ("log_losses", "patience", "finished"),
    [
        ([], 2, False),
        ([0.5, 0.4], 2, False),
        ([0.4, 0.5], 2, False),
        ([0.4, 0.5, 0.4], 2, True),
        ([0.4, 0.5, 0.3], 2, False),
        ([0.4, 0.5, 0.6, 0.7], 0, False),
        ([0.9, 0.8, 0.7, 0.6, 0.5], 2, True),
    ],
)
def test_training_ends_after_all_epochs_or_when_it_gets_no_better(
    tmp_path: Path, log_losses: list[float], patience: int, finished: bool
) -> None:
    values = recipe_values()
    values["schedule"] |= {"epochs": 5, "patience": patience}
    recipe = load_recipe(write_recipe(tmp_path / "recipe.yaml", values))
    history = [Epoch(n, 0.0, {"log_loss": loss}) for n, loss in enumerate(log_losses, 1)]
    assert is_finished(history, recipe) is finished


def test_frozen_parameters_and_statistics_stay_as_they_start(
    data_dir: Path, tmp_path: Path
) -> None:
    values = recipe_values()
    values["network"] |= {"batch_norm": "frozen", "freeze": ["conv_stem.", "blocks.0."]}
    values["schedule"]["epochs"] = 1
    training = trainer(values, data_dir, tmp_path)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    training.fit(Silent())
    after = training.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith(("conv_stem.", "blocks.0.")) for name in changed)
    assert not any("running_" in name for name in changed)
    assert {"conv_head.weight", "classifier.weight"} <= changed


def test_log_holds_every_epoch_for_tensorboard(data_dir: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path / "log") as log:
        fitted = small_trainer(data_dir, tmp_path, epochs=2).fit(Silent(), log)
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [item.step for item in events.Scalars("training/loss")] == [1, 2]
    seen = [item.value for item in events.Scalars("validation/auc")]
    assert seen == pytest.approx([epoch.figures["auc"] for epoch in fitted.history])


def test_diverging_training_says_so(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    values = recipe_values()
    values["schedule"] |= {"learning_rate": 1e30, "epochs": 1}
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    outcome = cli("train", recipe, "--data", data_dir, "--out", tmp_path / "out", *QUICK)
    assert outcome.status == 1
    assert "TRAINING_DIVERGED: " in outcome.err
    assert "lower schedule.learning_rate" in outcome.err
    assert not (tmp_path / "out" / "spots").exists()


def test_grade_error_grows_with_the_square_of_the_distance() -> None:
    sure_of_middle = torch.tensor([[0.0, 60.0, 0.0, 0.0]]).expand(3, 4)
    grades = torch.eye(4)
    found = [grade_error(sure_of_middle[:1], grades[[true]]).item() for true in range(4)]
    assert found == pytest.approx([1.0, 0.0, 1.0, 4.0], abs=1e-4)


def test_answer_is_the_likeliest_class_and_of_grades_the_expected_one(tmp_path: Path) -> None:
    values = recipe_values(("none", "mild", "severe"))
    classes = load_recipe(write_recipe(tmp_path / "classes.yaml", values))
    values["data"]["ordinal"] = True
    grades = load_recipe(write_recipe(tmp_path / "grades.yaml", values))
    scores = np.array([[0.4, 0.25, 0.35], [0.1, 0.1, 0.8]])
    assert answered(scores, classes).tolist() == [0, 2]
    assert answered(scores, grades).tolist() == [1, 2]


def test_grades_are_judged_by_their_kappa(cli: Cli, tmp_path: Path) -> None:
    grades = ("none", "mild", "severe")
    data = write_data(tmp_path / "data", classes=grades)
    values = recipe_values(grades)
    values["data"]["ordinal"] = True
    values["loss"] = {"ordinal": 0.3}
    values["select"]["metric"] = "quadratic_kappa"
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    models = tmp_path / "models"
    outcome = cli("train", recipe, "--data", data, "--out", models, "--epochs", "1", *QUICK)
    assert outcome.status == 0
    record = json.loads((models / "spots" / "metrics.json").read_text())
    low, high = record["metrics"]["quadratic_kappa"]["ci95"]
    assert -1.0 <= low <= high <= 1.0
    assert "quadratic_kappa" in record["how"]["history"][0]
