"""Pictures with boxes: one logit and one box at each place of a map, one logit for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.boxes import Boxes, best_of_each
from inference.config import InferenceConfig
from inference.manifest import Calibration
from inference.model_server import ModelServer
from inference.networks import build_network
from inference.pipelines.detection import LEAST_SCORE
from inference.preprocessing import normalise
from inference.registry import ModelPackage, Registry
from training.box_augment import build_box_augment
from training.box_curves import draw_box_curves
from training.box_metrics import BoxAnswer, box_figures, evaluate_boxes, right_boxes
from training.boxed_data import (
    BoxedCanvas,
    BoxedSample,
    added_boxed,
    boxed_digest,
    inside,
    load_boxed,
    load_boxed_canvases,
    without_objects,
)
from training.calibrate import calibrated, choose_threshold, fit_calibration
from training.data import of_split
from training.detection_loss import detection_loss
from training.lesions import borrow_lesion, draw_lesion, tissue_of
from training.progress import Progress
from training.recipe import Recipe
from training.start_weights import load_start_weights
from training.task import Evaluation, StepLoss

FINER = 1.5
"""Pictures are kept so much larger than the network's canvas, as augmentation resizes them."""
GROUP_POWER = 0.4
"""A group of n pictures is learnt from n ** 0.4 times as often as one picture."""
JUDGED_SCORE = 0.2
"""Score that boxes need when an epoch is judged, before there are thresholds."""


def open_task(
    recipe: Recipe, data: Path, start_weights: Path | None, progress: Progress
) -> DetectionTask:
    """See :class:`training.task.Kind`."""
    samples = load_boxed(data, recipe.data, recipe.seed)
    train, val = (_of_split(samples, name, recipe) for name in ("train", "val"))
    added = added_boxed(samples, data, recipe.data)
    quiet = without_objects(data, recipe.data, recipe.seed)
    return DetectionTask(recipe, start_weights, (*train, *added), (*val, *quiet), progress)


class DetectionTask:
    """See :class:`training.task.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        start_weights: Path | None,
        train: Sequence[BoxedSample],
        val: Sequence[BoxedSample],
        progress: Progress,
    ) -> None:
        self.recipe = recipe
        self.start_weights = start_weights
        self.size = len(train)
        self.data_sha256 = boxed_digest((*train, *val))
        self.pictures: Mapping[str, Mapping[str, int]] = {
            "train": _counts(train, recipe.data.classes),
            "val": _counts(val, recipe.data.classes),
        }
        self.network()  # start weights that don't fit are found before pictures are read
        self._samples = val
        height, width = recipe.input.plane
        finer = (recipe.input.shape[0], round(FINER * height), round(FINER * width))
        larger = recipe.input.model_copy(update={"shape": finer})
        self._train = load_boxed_canvases(train, larger, progress)
        self._val = load_boxed_canvases(val, recipe.input, progress)
        self._shares = _shares(train)
        self._lesions = _Lesions(recipe, self._train)

    def network(self) -> torch.nn.Module:
        """See :class:`training.task.Task`."""
        torch.manual_seed(self.recipe.seed)
        network: Any = build_network(self.recipe.network_ref, self.recipe.input, self.recipe.id)
        if self.start_weights is not None:
            import timm  # needs operators that building a network registers first

            start = self.recipe.start_weights
            whole = timm.create_model(
                network.backbone_name,
                num_classes=1,
                in_chans=self.recipe.input.shape[0],
                **network.backbone_options,
            )
            load_start_weights(whole, self.start_weights, start.sha256 if start else "")
            wanted = network.backbone.state_dict().keys()
            tensors = whole.state_dict()
            network.backbone.load_state_dict({name: tensors[name] for name in wanted})
        module: torch.nn.Module = network
        return module

    def begin_epoch(self, seed: int) -> StepLoss:
        """See :class:`training.task.Task`.

        Which pictures a step learns from is drawn anew, so that none of many alike prevail.
        """
        spec = self.recipe.input
        augment = build_box_augment(self.recipe.augment, *spec.plane, seed)
        generator = np.random.default_rng(seed)

        def step_loss(network: torch.nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
            tensors, truth, channels = [], [], []
            for _ in rows:
                item = self._train[generator.choice(self.size, p=self._shares)]
                canvas, boxes, channel = self._lesions.maybe_add(generator, item)
                changed, moved = augment(canvas, boxes)
                tensors.append(normalise(changed, spec))
                truth.append(torch.from_numpy(moved.astype(np.float32)))
                channels.append(channel)
            logits, places, features = network(_on_device(np.stack(tensors), network))
            return detection_loss(logits, places, features, truth, channels, spec.plane[0])

        return step_loss

    def judge(self, network: torch.nn.Module) -> dict[str, float]:
        """See :class:`training.task.Task`; means over the classes."""
        each = [
            box_figures(answers)
            for answers in self._answers(network, Calibration(), JUDGED_SCORE).values()
        ]
        shown = ("mean_iou", "ap50", "f1", "specificity")
        means = {name: float(np.mean([figures[name] for figures in each])) for name in shown}
        return {name: value for name, value in means.items() if np.isfinite(value)}

    def decide(self, network: torch.nn.Module) -> tuple[Calibration, dict[str, float]]:
        """See :class:`training.task.Task`.

        A box's probability is that of being right; missed objects count as boxes of no probability.
        """
        answers = self._answers(network, Calibration(), 0.0)
        raw = {
            name: np.concatenate([answer.scores for answer in items])
            for name, items in answers.items()
        }
        right = {
            name: np.concatenate([right_boxes(answer) for answer in items])
            for name, items in answers.items()
        }
        scores = np.concatenate(list(raw.values()))
        logits = np.log(scores / (1.0 - scores))[:, np.newaxis]
        truth = np.concatenate(list(right.values())).astype(np.int64)
        fitted = fit_calibration(logits, truth, with_bias=True)
        thresholds = {}
        for name, items in answers.items():
            own = np.log(raw[name] / (1.0 - raw[name]))[:, np.newaxis]
            missed = sum(len(answer.truth) for answer in items) - int(right[name].sum())
            chances = np.concatenate([calibrated(own, fitted)[:, 1], np.full(missed, 1e-6)])
            flags = np.concatenate([right[name], np.ones(missed, np.bool_)])
            thresholds[name] = choose_threshold(chances, flags, self.recipe.select.threshold)
        bias = fitted.bias * len(answers)
        return Calibration(temperature=fitted.temperature, bias=bias), thresholds

    def _answers(
        self, network: torch.nn.Module, calibration: Calibration, threshold: float
    ) -> dict[str, list[BoxAnswer]]:
        """Return what the network says about the validation pictures, in canvas pixels."""
        network.eval()
        answers: dict[str, list[BoxAnswer]] = {name: [] for name in self.recipe.data.classes}
        with torch.inference_mode():
            for item, sample in zip(self._val, self._samples, strict=True):
                tensor = normalise(item.canvas.astype(np.float32), self.recipe.input)
                logits, boxes, _ = network(_on_device(tensor[np.newaxis], network))
                scores = torch.sigmoid(logits[0].double()).cpu().numpy()
                places = boxes[0].double().cpu().numpy()
                for channel, name in enumerate(answers):
                    rows = np.flatnonzero(scores[:, channel] >= LEAST_SCORE)
                    found, best, _ = best_of_each(places[rows], scores[rows, channel])
                    truth = item.boxes if item.channel == channel else np.empty((0, 4))
                    about = sample.sample
                    answers[name].append(
                        BoxAnswer(truth, found, best, best >= threshold, about.group, about.source)
                    )
        return answers


class _Lesions:
    """Puts objects into pictures with nothing to find, as often as the recipe asks."""

    def __init__(self, recipe: Recipe, items: Sequence[BoxedCanvas]) -> None:
        self._spec = recipe.augment
        self._donors = [item for item in items if len(item.boxes)]
        self._tissue: dict[int, NDArray[np.bool_]] = {}
        self._is_gray = recipe.input.color == "gray"

    def maybe_add(
        self, generator: np.random.Generator, item: BoxedCanvas
    ) -> tuple[NDArray[np.float32], Boxes, int]:
        canvas = item.canvas.astype(np.float32)
        chance = generator.random()
        if len(item.boxes) or not self._is_gray or chance >= self._spec.borrowed + self._spec.drawn:
            return canvas, item.boxes, item.channel
        if id(item) not in self._tissue:
            self._tissue[id(item)] = tissue_of(canvas)
        tissue = self._tissue[id(item)]
        donor = self._donors[generator.integers(len(self._donors))]
        if chance < self._spec.borrowed:
            box = donor.boxes[generator.integers(len(donor.boxes))]
            other = donor.canvas.astype(np.float32)
            changed, boxes = borrow_lesion(generator, canvas, tissue, other, box)
        else:
            changed, boxes = draw_lesion(generator, canvas, tissue)
        return changed, boxes, donor.channel


def evaluate(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    data: Path,
    split: str,
    progress: Progress,
) -> Evaluation:
    """See :class:`training.task.Kind`."""
    samples = _of_split(load_boxed(data, recipe.data, recipe.seed), split, recipe)
    answers = collect_box_answers(recipe, package, config, samples, progress)
    draw = partial(draw_box_curves, answers=answers, title=recipe.name)
    return Evaluation(evaluate_boxes(answers), draw)


def collect_box_answers(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[BoxedSample],
    progress: Progress,
) -> dict[str, list[BoxAnswer]]:
    """Ask the model about each picture, by class; boxes under the threshold are asked for too.

    Raises
    ------
    PictureError, BoxesError
        A picture can't be read, or a box lies outside it.
    """
    outputs = package.manifest.outputs
    open_outputs = tuple(item.model_copy(update={"threshold": LEAST_SCORE}) for item in outputs)
    asked = replace(package, manifest=package.manifest.model_copy(update={"outputs": open_outputs}))
    server = ModelServer(Registry((asked,)), config)
    thresholds = {item.label: item.threshold for item in outputs}
    answers: dict[str, list[BoxAnswer]] = {name: [] for name in recipe.data.classes}
    with progress.stage("Evaluating", len(samples)) as advance:
        for item in samples:
            sample, image = item.sample, item.sample.read()
            prediction = server.predict(package.manifest.id, image)
            truth = inside(item, image.rows, image.columns)
            for channel, (name, own) in enumerate(answers.items()):
                label = recipe.report.outputs[name].label
                found = [box for box in prediction.boxes if box.label == label]
                edges = [(box.x_min, box.y_min, box.x_max, box.y_max) for box in found]
                scores = np.array([box.score for box in found])
                own.append(
                    BoxAnswer(
                        truth if sample.label == channel else np.empty((0, 4)),
                        np.array(edges, np.float64).reshape(-1, 4),
                        scores,
                        scores >= thresholds[label],
                        sample.group,
                        sample.source,
                    )
                )
            advance()
    return answers


def _of_split(
    samples: Sequence[BoxedSample], split: str, recipe: Recipe
) -> tuple[BoxedSample, ...]:
    of_split([item.sample for item in samples], split, recipe.data.classes)  # or raise
    return tuple(item for item in samples if item.sample.split == split)


def _shares(items: Sequence[BoxedSample]) -> NDArray[np.float64]:
    """Return how likely each picture is drawn, [N]."""
    sizes = Counter(item.sample.group for item in items)
    weights = np.array(
        [item.weight * sizes[item.sample.group] ** (GROUP_POWER - 1.0) for item in items]
    )
    return np.asarray(weights / weights.sum())


def _counts(items: Sequence[BoxedSample], classes: Sequence[str]) -> Mapping[str, int]:
    counts = Counter(item.sample.label for item in items)
    named = {name: counts[number] for number, name in enumerate(classes)}
    return {**named, "nothing to find": counts[len(classes)]}


def _on_device(batch: NDArray[np.float32], network: torch.nn.Module) -> torch.Tensor:
    device = next(network.parameters()).device
    return torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
