"""Pictures that may show several classes or none: one logit and one yes or no for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.config import InferenceConfig
from inference.manifest import Calibration
from inference.model_server import ModelServer
from inference.registry import ModelPackage, Registry
from training.calibrate import choose_threshold, fit_label_calibration, label_probabilities
from training.canvases import load_canvases
from training.curves import draw_label_curves
from training.data import Sample, data_digest, load_samples, of_split, with_added
from training.label_metrics import LabelAnswers, evaluate_labels, point_label_figures
from training.progress import Progress
from training.recipe import Recipe
from training.task import Evaluation, StepLoss
from training.tasks.classification import (
    Pictures,
    ask,
    augmented_logits,
    network_logits,
    started_network,
)

RAREST = 20.0
"""Largest weight of a positive label, however rare it is."""


def open_task(
    recipe: Recipe, data: Path, start_weights: Path | None, progress: Progress
) -> MultiLabelTask:
    """See :class:`training.task.Kind`."""
    samples = with_added(load_samples(data, recipe.data, recipe.seed), data, recipe.data)
    train, val = (of_split(samples, name, recipe.data.classes) for name in ("train", "val"))
    return MultiLabelTask(recipe, start_weights, train, val, progress)


class MultiLabelTask:
    """See :class:`training.task.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        start_weights: Path | None,
        train: Sequence[Sample],
        val: Sequence[Sample],
        progress: Progress,
    ) -> None:
        self.recipe = recipe
        self.start_weights = start_weights
        self.size = len(train)
        self.data_sha256 = data_digest((*train, *val))
        self.pictures: Mapping[str, Mapping[str, int]] = {
            "train": _counts(train, recipe.data.classes),
            "val": _counts(val, recipe.data.classes),
        }
        self.network()  # start weights that don't fit are found before pictures are read
        self._train, self._val = (
            Pictures(load_canvases(part, recipe.input, progress), _truth(part))
            for part in (train, val)
        )
        share = self._train.truth.mean(axis=0)
        # the square root: the full ratio makes rare labels noisy
        weights = np.sqrt(np.clip((1.0 - share) / share, 1.0, RAREST))
        self._positive_weights = torch.from_numpy(
            weights if recipe.loss.balance else np.ones_like(share)
        ).float()

    def network(self) -> torch.nn.Module:
        """See :class:`training.task.Task`."""
        return started_network(self.recipe, self.start_weights)

    def begin_epoch(self, seed: int) -> StepLoss:
        """See :class:`training.task.Task`."""
        labels = self._train.truth.astype(np.float32)
        logits_of = augmented_logits(self.recipe, self._train.canvases, labels, seed)
        smoothing = self.recipe.loss.label_smoothing

        def step_loss(network: torch.nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
            logits, truth = logits_of(network, rows)
            return functional.binary_cross_entropy_with_logits(
                logits,
                truth * (1.0 - smoothing) + smoothing / 2,
                pos_weight=self._positive_weights.to(logits),
            )

        return step_loss

    def judge(self, network: torch.nn.Module) -> dict[str, float]:
        """See :class:`training.task.Task`."""
        logits = network_logits(network, self._val, self.recipe)
        scores = label_probabilities(logits, Calibration())
        return point_label_figures(self._val.truth, scores)

    def decide(self, network: torch.nn.Module) -> tuple[Calibration, dict[str, float]]:
        """See :class:`training.task.Task`."""
        logits, truth = network_logits(network, self._val, self.recipe), self._val.truth
        calibration = fit_label_calibration(logits, truth)
        scores = label_probabilities(logits, calibration)
        metric = self.recipe.select.threshold
        thresholds = {
            name: choose_threshold(scores[:, index], truth[:, index] == 1, metric)
            if 0 < truth[:, index].sum() < len(truth)
            else 0.5
            for index, name in enumerate(self.recipe.data.classes)
        }
        return calibration, thresholds


def evaluate(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    data: Path,
    split: str,
    progress: Progress,
) -> Evaluation:
    """See :class:`training.task.Kind`."""
    classes = recipe.data.classes
    samples = of_split(load_samples(data, recipe.data, recipe.seed), split, classes)
    answers = _collect(recipe, package, config, samples, progress)
    draw = partial(draw_label_curves, answers=answers, classes=classes, title=recipe.name)
    return Evaluation(evaluate_labels(answers, classes), draw)


def _collect(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[Sample],
    progress: Progress,
) -> LabelAnswers:
    server = ModelServer(Registry((package,)), config)
    labels = [recipe.report.outputs[name].label for name in recipe.data.classes]
    scores, reported = np.empty((2, len(samples), len(labels)))
    with progress.stage("Evaluating", len(samples)) as advance:
        for row, sample in enumerate(samples):
            prediction = ask(server, package.manifest.id, sample)
            found = {finding.label: finding for finding in prediction.findings}
            scores[row] = [found[label].probability for label in labels]
            reported[row] = [found[label].is_positive for label in labels]
            advance()
    return LabelAnswers(
        truth=_truth(samples),
        scores=scores,
        reported=reported.astype(np.int64),
        groups=np.array([sample.group for sample in samples]),
        sources=np.array([sample.source for sample in samples]),
    )


def _truth(samples: Sequence[Sample]) -> NDArray[np.int64]:
    return np.array([sample.labels for sample in samples], np.int64)


def _counts(samples: Sequence[Sample], classes: Sequence[str]) -> Mapping[str, int]:
    totals = _truth(samples).sum(axis=0)
    return {"all": len(samples), **dict(zip(classes, totals.tolist(), strict=True))}
