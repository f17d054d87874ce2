"""A checkpoint's figures on labelled pictures, through the very path that serves patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.config import InferenceConfig
from inference.errors import ImageError
from inference.model_server import ModelServer
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from ledger.domain import Finding
from training.data import Sample, load_samples, of_split
from training.errors import NoRecipeError, PictureError
from training.metrics import Answers, evaluate_answers
from training.progress import Progress
from training.recipe import RECIPE_NAME, Recipe, load_recipe


def packaged_recipe(package: ModelPackage) -> Recipe:
    """Return the recipe that lies in the model's folder.

    Raises
    ------
    NoRecipeError
        There is none.
    """
    path = package.folder / RECIPE_NAME
    if not path.is_file():
        raise NoRecipeError(
            f"Model {package.manifest.id!r} has no {RECIPE_NAME}, so its classes can't be matched "
            "with labels; only models made by 'pacsight train' can be evaluated."
        )
    return load_recipe(path)


def evaluate_model(
    package: ModelPackage,
    config: InferenceConfig,
    data_dir: Path,
    split: str,
    progress: Progress,
) -> dict[str, Any]:
    """Run a model over one split of a data folder.

    Returns
    -------
    dict
        ``model``, ``version``, ``split``, and what :func:`training.metrics.evaluate_answers` gives.

    Raises
    ------
    TrainingError, InferenceError
        The data can't be used, or the model can't run.
    """
    recipe = packaged_recipe(package)
    classes = recipe.data.classes
    samples = of_split(load_samples(data_dir, recipe.data, recipe.seed), split, classes)
    answers = collect_answers(recipe, package, config, samples, progress)
    return {
        "model": package.manifest.id,
        "version": package.manifest.version,
        "split": split,
        **evaluate_answers(answers, classes),
    }


def collect_answers(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[Sample],
    progress: Progress,
) -> Answers:
    """Ask the model about each picture.

    Raises
    ------
    PictureError
        A picture can't be read; the sentence names it.
    """
    server = ModelServer(Registry((package,)), config)
    model_id = package.manifest.id
    scores = np.empty((len(samples), len(recipe.data.classes)))
    predicted = np.empty(len(samples), np.int64)
    with progress.stage("Evaluating", len(samples)) as advance:
        for index, sample in enumerate(samples):
            try:
                prediction = server.predict(model_id, read_image(sample.path))
            except ImageError as error:
                raise PictureError(f"{sample.file} can't be used: {error}") from error
            scores[index], predicted[index] = _answer(recipe, prediction.findings)
            advance()
    return Answers(
        truth=np.array([sample.label for sample in samples], np.int64),
        scores=scores,
        predicted=predicted,
        groups=np.array([sample.group for sample in samples]),
        sources=np.array([sample.source for sample in samples]),
    )


def _answer(recipe: Recipe, findings: Sequence[Finding]) -> tuple[list[float], int]:
    """Return one probability for each class, and the class that the findings amount to."""
    by_label = {finding.label: finding for finding in findings}
    found = [by_label[recipe.report.outputs[name].label] for name in recipe.reported_classes]
    if recipe.is_binary:
        positive = found[0].probability
        return [1.0 - positive, positive], int(found[0].is_positive)
    scores = [finding.probability for finding in found]
    return scores, int(np.argmax(scores))
