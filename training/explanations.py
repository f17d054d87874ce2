"""Are heatmaps faithful? Two measures, through the path that serves patients.

Pointing game: does the hottest pixel lie in a box that people drew round the disease? Deletion:
does the finding's probability fall when the hottest part of the picture is blurred away, more than
when a part of the same size and shape elsewhere is?
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.boxes import Boxes
from inference.config import InferenceConfig
from inference.model_server import ModelServer
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from ledger.domain import Prediction
from training.boxed_data import BoxedSample, inside, load_boxed
from training.card import write_card
from training.data import LABELS_NAME, Sample, load_samples, read_rows
from training.errors import ExplanationError
from training.metrics import draws, interval
from training.package import write_json
from training.progress import Progress
from training.recipe import DataSpec, Recipe
from training.verify import METRICS_NAME

SHARES = (0.05, 0.1, 0.2, 0.3)
"""Of the picture that is blurred."""
BLUR = 0.08
"""Standard deviation of the blur, as a share of the longer side: nothing but shades is left."""
ELSEWHERE = 4
"""Other places that the hottest part is compared with."""

Figures = dict[str, Any]


def pointing_game(
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[BoxedSample],
    data: str,
    progress: Progress,
) -> Figures:
    """Return how often the hottest pixel lies in a box, and how often a random one would.

    Parameters
    ----------
    samples
        Pictures with boxes; others are left out.
    data
        How the pictures are called in the record.

    Raises
    ------
    ExplanationError
        The model explains nothing, or no picture has boxes.
    PictureError, BoxesError
        A picture can't be read, or a box lies outside it.
    """
    asked = [item for item in samples if len(item.boxes)]
    if not asked:
        raise ExplanationError("No picture of this part has boxes; the pointing game needs them.")
    server = ModelServer(Registry((package,)), config)
    rows = []
    with progress.stage("Pointing game", len(asked)) as advance:
        for item in asked:
            image = item.sample.read()
            boxes = inside(item, image.rows, image.columns)
            heat = _heat(server.predict(package.manifest.id, image))
            rows.append(_pointed(heat, boxes))
            advance()
    hits, inner, chance = np.array(rows).T
    weights = draws(np.array([item.sample.group for item in asked]), 0)
    return {
        "data": data,
        "n": len(asked),
        "hits": interval(_mean(hits, weights)),
        "heat": interval(_mean(inner, weights)),
        "chance": round(float(chance.mean()), 4),
    }


def _pointed(heat: NDArray[np.float32], boxes: Boxes) -> tuple[float, float, float]:
    """Return hit or not, the share of the heat in boxes, and the boxes' share of the picture."""
    within = np.zeros(heat.shape, np.bool_)
    for x_min, y_min, x_max, y_max in np.round(boxes).astype(int):
        within[y_min:y_max, x_min:x_max] = True
    hottest = np.unravel_index(int(heat.argmax()), heat.shape)
    total = float(heat.sum())
    share = float(heat[within].sum()) / total if total else 0.0
    return float(within[hottest] and total > 0), share, float(within.mean())


def deletion(
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[Sample],
    data: str,
    progress: Progress,
) -> Figures:
    """Return which share of a positive finding's probability goes with the hottest part.

    Parameters
    ----------
    samples
        Pictures; those without a positive finding are left out.
    data
        How the pictures are called in the record.

    Raises
    ------
    ExplanationError
        The model explains nothing, or finds nothing on any picture.
    PictureError
        A picture can't be read.
    """
    server = ModelServer(Registry((package,)), config)
    random = np.random.default_rng(0)
    rows, groups = [], []
    with progress.stage("Deletion", len(samples)) as advance:
        for sample in samples:
            lost = _lost(server, package.manifest.id, sample.read(), random)
            if lost is not None:
                rows.append(lost)
                groups.append(sample.group)
            advance()
    if not rows:
        raise ExplanationError("The model finds nothing on these pictures, so nothing can be lost.")
    lost_by = np.array(rows)  # [pictures, hottest or elsewhere, shares]
    weights = draws(np.array(groups), 0)
    hot, other = lost_by.mean(axis=2).T
    return {
        "data": data,
        "n": len(rows),
        "shares": list(SHARES),
        "lost": lost_by[:, 0].mean(axis=0).round(4).tolist(),
        "lost_elsewhere": lost_by[:, 1].mean(axis=0).round(4).tolist(),
        "mean_lost": interval(_mean(hot, weights)),
        "mean_lost_elsewhere": interval(_mean(other, weights)),
    }


def _lost(
    server: ModelServer, model_id: str, image: SourceImage, random: np.random.Generator
) -> list[list[float]] | None:
    """Return the shares that are lost [hottest or elsewhere, shares]; None: nothing was found."""
    prediction = server.predict(model_id, image)
    heat = _heat(prediction)
    assert prediction.heatmap is not None
    label = prediction.heatmap.label
    before = _probability(prediction, label)
    if before is None:
        return None
    blurred = _blurred(image.array)
    lost: list[list[float]] = [[], []]
    for part, elsewhere in zip(_hottest(heat), _elsewhere(heat, random), strict=True):
        tries = [_replaced(image, blurred, mask) for mask in (part, *elsewhere)]
        after = [_of(server.predict(model_id, changed), label) for changed in tries]
        losses = [(before - value) / before for value in after]
        lost[0].append(losses[0])
        lost[1].append(float(np.mean(losses[1:])))
    return lost


def _hottest(heat: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    """Give the hottest part of each share; of equal pixels those that come first."""
    order = np.argsort(-heat, axis=None, kind="stable")
    for share in SHARES:
        mask = np.zeros(heat.size, np.bool_)
        mask[order[: max(1, round(share * heat.size))]] = True
        yield mask.reshape(heat.shape)


def _elsewhere(
    heat: NDArray[np.float32], random: np.random.Generator
) -> Iterator[list[NDArray[np.bool_]]]:
    """Give the same parts, moved round the picture by random steps."""
    rows, columns = heat.shape
    steps = [
        (int(random.uniform(0.25, 0.75) * rows), int(random.uniform(0.25, 0.75) * columns))
        for _ in range(ELSEWHERE)
    ]
    for mask in _hottest(heat):
        yield [np.roll(mask, step, axis=(0, 1)) for step in steps]


def _blurred(array: NDArray[np.float32]) -> NDArray[np.float32]:
    width = BLUR * max(array.shape[:2])
    widths = (width, width) if array.ndim == 2 else (width, width, 0.0)
    return np.asarray(ndimage.gaussian_filter(array, widths), np.float32)


def _replaced(
    image: SourceImage, blurred: NDArray[np.float32], mask: NDArray[np.bool_]
) -> SourceImage:
    where = mask if image.array.ndim == 2 else mask[:, :, np.newaxis]
    array = np.where(where, blurred, image.array).astype(np.float32)
    return SourceImage.of(array, image.facts, image.dataset)


def _heat(prediction: Prediction) -> NDArray[np.float32]:
    if prediction.heatmap is None:
        raise ExplanationError("The model gives no heatmaps, so there is nothing to be checked.")
    return prediction.heatmap.array


def _probability(prediction: Prediction, label: str) -> float | None:
    """Return the probability of a finding; None if it is not positive."""
    found = next(finding for finding in prediction.findings if finding.label == label)
    return found.probability if found.is_positive else None


def _of(prediction: Prediction, label: str) -> float:
    found = next(finding for finding in prediction.findings if finding.label == label)
    return found.probability


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights @ values / weights.sum(axis=1))


def check_explanations(
    package: ModelPackage,
    recipe: Recipe,
    config: InferenceConfig,
    data: Path,
    split: str,
    boxes: Path | None,
    progress: Progress,
) -> Figures:
    """Measure a model's heatmaps: ``explanation`` of ``metrics.json``.

    Parameters
    ----------
    data
        Folder of the model's own task, for deletion.
    boxes
        Folder whose ``labels.csv`` has boxes, for the pointing game; None: `data` if it has.

    Raises
    ------
    TrainingError
        The data can't be used, or the model explains nothing.
    """
    samples = _samples(recipe, data, split)
    record: Figures = {
        "deletion": deletion(package, config, samples, f"{data.name} {split}", progress)
    }
    if boxes is None and recipe.pipeline == "detection":
        boxes = data
    if boxes is not None:
        boxed = [item for item in _boxed(boxes) if item.sample.split == split]
        name = f"{boxes.name} {split}"
        record["pointing_game"] = pointing_game(package, config, boxed, name, progress)
    return record


def _samples(recipe: Recipe, data: Path, split: str) -> list[Sample]:
    if recipe.pipeline == "detection":
        own = [item.sample for item in load_boxed(data, recipe.data, recipe.seed)]
    else:
        own = list(load_samples(data, recipe.data, recipe.seed))
    return [sample for sample in own if sample.split == split]


def _boxed(folder: Path) -> tuple[BoxedSample, ...]:
    """Read a folder of boxes, whatever they are round."""
    labels = {row["label"] for row in read_rows(folder / LABELS_NAME)}
    classes = tuple(sorted(labels - {""}))
    return load_boxed(folder, DataSpec(classes=classes), 0)


def save_explanation(package: ModelPackage, recipe: Recipe, measured: Mapping[str, Any]) -> None:
    """Write the figures into ``metrics.json`` and ``MODEL_CARD.md`` of a model's folder."""
    path = package.folder / METRICS_NAME
    record = {**json.loads(path.read_text(encoding="utf-8")), "explanation": dict(measured)}
    write_json(path, record)
    write_card(package.folder, package.manifest, recipe, record)
