"""The kinds of models that can be trained and evaluated, by the pipeline that serves them."""

from __future__ import annotations

from collections.abc import Mapping

from training.recipe import Recipe
from training.task import Kind
from training.tasks import classification, detection, multi_label, segmentation

_KINDS: Mapping[str, Kind] = {
    "classification": classification,
    "detection": detection,
    "segmentation": segmentation,
}


def kind_of(recipe: Recipe) -> Kind:
    """Return how models of a recipe are trained and evaluated."""
    return multi_label if recipe.data.multi_label else _KINDS[recipe.pipeline]
