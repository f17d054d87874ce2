"""A checkpoint's figures on labelled data, through the very path that serves patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.config import InferenceConfig
from inference.registry import ModelPackage
from training.errors import NoRecipeError, RecipeError
from training.progress import Progress
from training.recipe import RECIPE_NAME, Recipe, load_recipe
from training.task import Evaluation
from training.tasks import kind_of


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
    data: Path,
    split: str,
    progress: Progress,
    recipe: Recipe | None = None,
) -> Evaluation:
    """Run a model over one split of a data folder.

    Parameters
    ----------
    recipe
        Which data, classes and figures; by default the one in the model's folder.

    Returns
    -------
    Evaluation
        Its record has ``model``, ``version`` and ``split`` in front.

    Raises
    ------
    TrainingError, InferenceError
        The data can't be used, or the model can't run.
    """
    recipe = recipe or packaged_recipe(package)
    _check_labels(recipe, package)
    found = kind_of(recipe).evaluate(recipe, package, config, data, split, progress)
    about: dict[str, Any] = {
        "model": package.manifest.id,
        "version": package.manifest.version,
        "split": split,
    }
    return Evaluation({**about, **found.record}, found.draw)


def _check_labels(recipe: Recipe, package: ModelPackage) -> None:
    said = sorted(output.label for output in package.manifest.outputs)
    asked = sorted(recipe.report.outputs[name].label for name in recipe.reported_classes)
    if said != asked:
        raise RecipeError(
            f"Model {package.manifest.id!r} says {', '.join(said)}, its {RECIPE_NAME} reports "
            f"{', '.join(asked)}; they must be the same labels."
        )
