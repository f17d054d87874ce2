"""From a recipe to a checkpoint: the order of things, each done by its own module."""

from __future__ import annotations

import copy
import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from inference.config import InferenceConfig
from inference.registry import load_model
from inference.weights import sha256_of
from training.card import write_card
from training.errors import StartWeightsError, TrainingError
from training.evaluate import evaluate_model
from training.fit import Fitted, Trainer
from training.golden import write_golden
from training.log import open_log
from training.package import half_precision, target_folder, write_json, write_model, written_at_once
from training.progress import Progress
from training.recipe import Recipe, load_recipe, recipe_digest, recipe_text
from training.resume import ResumeFile
from training.task import Task
from training.tasks import kind_of
from training.verify import METRICS_NAME, make_golden, verify_folder

CURVES_NAME = "curves.png"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    recipe: Path
    data: Path
    out: Path
    start_weights: Path | None = None
    """None: random weights, for recipes that name no start weights."""
    epochs: int | None = None
    """Instead of the recipe's."""
    threads: int = 0
    """CPU threads; 0 leaves the choice to torch."""
    log: Path | None = None
    """Folder for a TensorBoard log."""
    fit_only: bool = False
    """Stop before the checkpoint is written, and leave the state: see :func:`train_checkpoint`."""


def train_checkpoint(request: Request, progress: Progress) -> Path:
    """Train, calibrate, evaluate and write a checkpoint; return its folder.

    Recipe, data folder, start weights and target are checked before anything is computed. A stopped
    training goes on from its last complete epoch when the same is asked for again, on another
    machine too when its state (the hidden file beside the folder) is brought there. With `fit_only`
    the state's path is returned: the part that needs the serving engine is left for elsewhere.

    Raises
    ------
    TrainingError
        One of its kinds.
    """
    recipe = load_recipe(request.recipe, epochs=request.epochs)
    folder = target_folder(request.out, recipe.id)
    _check_start_weights(recipe, request.start_weights)
    if request.threads:
        torch.set_num_threads(request.threads)
    task = kind_of(recipe).open_task(recipe, request.data, request.start_weights, progress)
    resume = ResumeFile.beside(folder, _fingerprint(recipe, task, request.start_weights))
    with (
        nullcontext() if request.log is None else open_log(request.log, recipe_text(recipe)) as log
    ):
        fitted = Trainer(task, recipe, resume).fit(progress, log)
    if request.fit_only:
        return resume.path
    with written_at_once(folder) as draft:
        _write(draft, request, recipe, task, fitted, progress)
    resume.remove()
    return folder


def _check_start_weights(recipe: Recipe, path: Path | None) -> None:
    if path is None and recipe.start_weights is not None:
        raise StartWeightsError(
            f"The recipe starts from {recipe.start_weights.name}: name that file with "
            "--start-weights, or take start_weights out of the recipe to start from random ones."
        )


def _fingerprint(recipe: Recipe, task: Task, start_weights: Path | None) -> str:
    start = sha256_of(start_weights) if start_weights is not None else ""
    text = f"{recipe_digest(recipe)} {task.data_sha256} {start}"
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    draft: Path, request: Request, recipe: Recipe, task: Task, fitted: Fitted, progress: Progress
) -> None:
    """Fill the folder: model, golden case, figures through the serving path, curves, card."""
    stored = half_precision(fitted.network)
    # The float16 weights are computed with in float32, as serving does.
    calibration, thresholds = task.decide(copy.deepcopy(stored).float())
    write_model(draft, recipe, stored, calibration, thresholds)
    package = load_model(draft)
    with TemporaryDirectory() as cache:  # the network is converted once for both
        config = InferenceConfig(backend="openvino", cache_dir=Path(cache))
        write_golden(draft, make_golden(package, config, recipe.seed))
        evaluation = evaluate_model(package, config, request.data, "val", progress, recipe)
    record = {
        **evaluation.record,
        "thresholds": thresholds,
        "calibration": calibration.model_dump(mode="json"),
        "how": _how(request, recipe, task, fitted),
    }
    write_json(draft / METRICS_NAME, record)
    evaluation.draw(draft / CURVES_NAME, fitted.history)
    write_card(draft, package.manifest, recipe, record)
    failed = [check for check in verify_folder(draft) if not check.is_passed]
    if failed:
        raise TrainingError(f"The checkpoint doesn't verify: {failed[0].name}, {failed[0].detail}.")


def _how(request: Request, recipe: Recipe, task: Task, fitted: Fitted) -> dict[str, Any]:
    """Return all that is needed to train the same again. Folders are named, not located."""
    recipe_path = request.recipe
    shown = recipe_path.name if recipe_path.is_absolute() else recipe_path.as_posix()
    command = ["pacsight train", shown, "--data", request.data.name]
    command += ["--out", request.out.name]
    if request.start_weights is not None:
        command += ["--start-weights", request.start_weights.name]
    if request.epochs is not None:
        command += ["--epochs", str(request.epochs)]
    start = request.start_weights
    return {
        "command": " ".join(command),
        "seed": recipe.seed,
        "recipe_sha256": recipe_digest(recipe),
        "data_sha256": task.data_sha256,
        "start_weights_sha256": sha256_of(start) if start is not None else None,
        "pictures": task.pictures,
        "parameters_trained": sum(
            p.numel() for p in fitted.network.parameters() if p.requires_grad
        ),
        "best_epoch": fitted.best.number,
        "seconds": round(sum(epoch.seconds for epoch in fitted.history)) or None,
        "history": [epoch.to_json() for epoch in fitted.history],
        **fitted.made_on,
    }
