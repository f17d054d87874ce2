"""From a recipe to a checkpoint: the order of things, each done by its own module."""

from __future__ import annotations

import copy
import hashlib
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from inference.config import InferenceConfig
from inference.manifest import Calibration
from inference.networks import build_network
from inference.registry import load_model
from inference.weights import sha256_of
from training.calibrate import calibrated, choose_threshold, fit_calibration
from training.canvases import load_canvases
from training.card import write_card
from training.curves import draw_curves
from training.data import Sample, data_digest, load_samples, of_split
from training.errors import StartWeightsError, TrainingError
from training.evaluate import collect_answers
from training.fit import Fitted, Pictures, Trainer, network_logits
from training.golden import GoldenCase, write_golden
from training.metrics import evaluate_answers
from training.package import half_precision, target_folder, write_json, write_model, written_at_once
from training.progress import Progress
from training.recipe import Recipe, load_recipe, recipe_digest
from training.resume import ResumeFile
from training.start_weights import load_start_weights, zero_last_layer
from training.verify import METRICS_NAME, golden_probabilities, verify_folder

GOLDEN_SIDES = (320, 288)
LIBRARIES = ("torch", "timm", "monai", "openvino", "numpy", "scikit-learn")


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


def train_checkpoint(request: Request, progress: Progress) -> Path:
    """Train, calibrate, evaluate and write a checkpoint; return its folder.

    Recipe, data folder, start weights and target are checked before anything is computed. A stopped
    training goes on from its last complete epoch when the same is asked for again.

    Raises
    ------
    TrainingError
        One of its kinds.
    """
    recipe = load_recipe(request.recipe, epochs=request.epochs)
    folder = target_folder(request.out, recipe.id)
    _check_start_weights(recipe, request.start_weights)
    samples = load_samples(request.data, recipe.data, recipe.seed)
    train, val = (of_split(samples, name, recipe.data.classes) for name in ("train", "val"))
    if request.threads:
        torch.set_num_threads(request.threads)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network_ref, recipe.input, recipe.id)
    if request.start_weights is not None:
        expected = recipe.start_weights.sha256 if recipe.start_weights else ""
        load_start_weights(network, request.start_weights, expected)
    zero_last_layer(network)
    digest = data_digest((*train, *val))
    pictures = [_pictures(part, recipe, progress) for part in (train, val)]
    resume = ResumeFile.beside(folder, _fingerprint(recipe, digest, request.start_weights))
    fitted = Trainer(network, recipe, pictures[0], pictures[1], resume).fit(progress)
    how = _how(request, recipe, digest, (train, val), fitted)
    with written_at_once(folder) as draft:
        _write(draft, recipe, fitted, (val, pictures[1]), how, progress)
    resume.remove()
    return folder


def _check_start_weights(recipe: Recipe, path: Path | None) -> None:
    if path is None and recipe.start_weights is not None:
        raise StartWeightsError(
            f"The recipe starts from {recipe.start_weights.name}: name that file with "
            "--start-weights, or take start_weights out of the recipe to start from random ones."
        )


def _pictures(samples: Sequence[Sample], recipe: Recipe, progress: Progress) -> Pictures:
    truth = np.array([sample.label for sample in samples], np.int64)
    return Pictures(load_canvases(samples, recipe.input, progress), truth)


def _fingerprint(recipe: Recipe, digest: str, start_weights: Path | None) -> str:
    start = sha256_of(start_weights) if start_weights is not None else ""
    return hashlib.sha256(f"{recipe_digest(recipe)} {digest} {start}".encode()).hexdigest()


def _write(
    draft: Path,
    recipe: Recipe,
    fitted: Fitted,
    val: tuple[Sequence[Sample], Pictures],
    how: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Fill the folder: model, golden case, figures through the serving path, curves, card."""
    stored = half_precision(fitted.network)
    calibration, thresholds = _decide(recipe, stored, val[1])
    write_model(draft, recipe, stored, calibration, thresholds)
    package = load_model(draft)
    with TemporaryDirectory() as cache:  # the network is converted once for both
        config = InferenceConfig(backend="openvino", cache_dir=Path(cache))
        golden = golden_probabilities(package, config, recipe.seed, *GOLDEN_SIDES)
        answers = collect_answers(recipe, package, config, val[0], progress)
    rows, columns = GOLDEN_SIDES
    write_golden(
        draft, GoldenCase(seed=recipe.seed, rows=rows, columns=columns, probabilities=golden)
    )
    record = {
        "model": recipe.id,
        "version": recipe.version,
        "split": "val",
        **evaluate_answers(answers, recipe.data.classes),
        "thresholds": thresholds,
        "calibration": calibration.model_dump(mode="json"),
        "how": how,
    }
    write_json(draft / METRICS_NAME, record)
    draw_curves(draft / "curves.png", answers, recipe.data.classes, fitted.history, recipe.name)
    write_card(draft, package.manifest, recipe, record)
    failed = [check for check in verify_folder(draft) if not check.is_passed]
    if failed:
        raise TrainingError(f"The checkpoint doesn't verify: {failed[0].name}, {failed[0].detail}.")


def _decide(
    recipe: Recipe, stored: torch.nn.Module, pictures: Pictures
) -> tuple[Calibration, dict[str, float]]:
    """Return calibration and the threshold of each reported class, chosen on `pictures`.

    The float16 weights of `stored` are computed with in float32, as serving does.
    """
    logits = network_logits(copy.deepcopy(stored).float(), pictures, recipe)
    with_bias = recipe.select.calibration == "temperature-and-bias"
    calibration = fit_calibration(logits, pictures.truth, with_bias=with_bias)
    probabilities = calibrated(logits, calibration)
    thresholds = {
        name: choose_threshold(
            probabilities[:, index], pictures.truth == index, recipe.select.threshold
        )
        for index, name in enumerate(recipe.data.classes)
        if name in recipe.reported_classes
    }
    return calibration, thresholds


def _how(
    request: Request,
    recipe: Recipe,
    digest: str,
    parts: tuple[Sequence[Sample], Sequence[Sample]],
    fitted: Fitted,
) -> dict[str, Any]:
    """Return all that is needed to train the same again. Folders are named, not located."""
    recipe_path = request.recipe
    shown = recipe_path.name if recipe_path.is_absolute() else recipe_path.as_posix()
    command = ["pacsight train", shown, "--data", request.data.name]
    command += ["--out", request.out.name]
    if request.start_weights is not None:
        command += ["--start-weights", request.start_weights.name]
    if request.epochs is not None:
        command += ["--epochs", str(request.epochs)]
    counts = {
        name: {
            label: count
            for index, label in enumerate(recipe.data.classes)
            if (count := Counter(sample.label for sample in part)[index])
        }
        for name, part in zip(("train", "val"), parts, strict=True)
    }
    start = request.start_weights
    return {
        "command": " ".join(command),
        "seed": recipe.seed,
        "recipe_sha256": recipe_digest(recipe),
        "data_sha256": digest,
        "start_weights_sha256": sha256_of(start) if start is not None else None,
        "pictures": counts,
        "parameters_trained": sum(
            p.numel() for p in fitted.network.parameters() if p.requires_grad
        ),
        "best_epoch": fitted.best.number,
        "seconds": round(sum(epoch.seconds for epoch in fitted.history)) or None,
        "history": [asdict(epoch) for epoch in fitted.history],
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
