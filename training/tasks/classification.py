"""Pictures with one label each: two classes (one logit) or more (softmax)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from inference.config import InferenceConfig
from inference.errors import ImageError
from inference.manifest import Calibration
from inference.model_server import ModelServer
from inference.networks import build_network
from inference.preprocessing import normalise
from inference.registry import ModelPackage, Registry
from ledger.domain import Finding, Prediction
from training.augment import build_augment, build_mix
from training.calibrate import calibrated, choose_threshold, fit_calibration
from training.canvases import load_canvases
from training.curves import draw_curves
from training.data import Sample, data_digest, load_samples, of_split, with_added
from training.errors import PictureError
from training.metrics import Answers, evaluate_answers, point_figures
from training.progress import Progress
from training.recipe import Recipe
from training.start_weights import load_start_weights, zero_last_layer
from training.task import Evaluation, StepLoss

EVALUATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Pictures:
    """Canvases of ``training.canvases`` with their true class, [N], or labels, [N, K]."""

    canvases: NDArray[np.float16]
    truth: NDArray[np.int64]


def open_task(
    recipe: Recipe, data: Path, start_weights: Path | None, progress: Progress
) -> ClassificationTask:
    """See :class:`training.task.Kind`."""
    samples = with_added(load_samples(data, recipe.data, recipe.seed), data, recipe.data)
    train, val = (of_split(samples, name, recipe.data.classes) for name in ("train", "val"))
    return ClassificationTask(recipe, start_weights, train, val, progress)


class ClassificationTask:
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
        self._train, self._val = (_pictures(part, recipe, progress) for part in (train, val))
        self._class_weights = _class_weights(recipe, self._train.truth)

    def network(self) -> torch.nn.Module:
        """See :class:`training.task.Task`."""
        return started_network(self.recipe, self.start_weights)

    def begin_epoch(self, seed: int) -> StepLoss:
        """See :class:`training.task.Task`."""
        shares = np.eye(len(self.recipe.data.classes), dtype=np.float32)[self._train.truth]
        logits_of = augmented_logits(self.recipe, self._train.canvases, shares, seed)

        def step_loss(network: torch.nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
            return self._loss(*logits_of(network, rows))

        return step_loss

    def _loss(self, logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Return the loss; `shares`, [B, K], is how much of each class a picture shows."""
        smoothing = self.recipe.loss.label_smoothing
        weights = self._class_weights.to(logits.device)
        if not self.recipe.is_binary:
            loss = functional.cross_entropy(
                logits, shares, weight=weights, label_smoothing=smoothing
            )
            return loss + self.recipe.loss.ordinal * grade_error(logits, shares)
        targets = shares[:, 1] * (1.0 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits[:, 0], targets, weight=shares @ weights
        )

    def judge(self, network: torch.nn.Module) -> dict[str, float]:
        """See :class:`training.task.Task`."""
        scores = calibrated(network_logits(network, self._val, self.recipe), Calibration())
        truth = self._val.truth
        nobody = np.full(len(truth), "")
        answers = Answers(truth, scores, answered(scores, self.recipe), nobody, nobody)
        ordinal = self.recipe.data.ordinal
        figures = point_figures(answers, len(self.recipe.data.classes), ordinal=ordinal)
        log_loss = -np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-7)).mean()
        names = ("auc", "f1", "accuracy", *(("quadratic_kappa",) if ordinal else ()))
        shown = {name: figures[name] for name in names}
        return {"log_loss": float(log_loss), **shown}

    def decide(self, network: torch.nn.Module) -> tuple[Calibration, dict[str, float]]:
        """See :class:`training.task.Task`."""
        recipe = self.recipe
        logits, truth = network_logits(network, self._val, recipe), self._val.truth
        with_bias = recipe.select.calibration == "temperature-and-bias"
        calibration = fit_calibration(logits, truth, with_bias=with_bias)
        probabilities = calibrated(logits, calibration)
        thresholds = {
            name: choose_threshold(probabilities[:, index], truth == index, recipe.select.threshold)
            for index, name in enumerate(recipe.data.classes)
            if name in recipe.reported_classes
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
    answers = collect_answers(recipe, package, config, samples, progress)
    draw = partial(draw_curves, answers=answers, classes=classes, title=recipe.name)
    return Evaluation(evaluate_answers(answers, classes, ordinal=recipe.data.ordinal), draw)


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
            prediction = ask(server, model_id, sample)
            scores[index], predicted[index] = _answer(recipe, prediction.findings)
            advance()
    return Answers(
        truth=np.array([sample.label for sample in samples], np.int64),
        scores=scores,
        predicted=predicted,
        groups=np.array([sample.group for sample in samples]),
        sources=np.array([sample.source for sample in samples]),
    )


def ask(server: ModelServer, model_id: str, sample: Sample) -> Prediction:
    """Return what a model says about one picture.

    Raises
    ------
    PictureError
        The picture can't be used; the sentence names it.
    """
    image = sample.read()
    try:
        return server.predict(model_id, image)
    except ImageError as error:
        raise PictureError(f"{sample.file} can't be used: {error}") from error


def _answer(recipe: Recipe, findings: Sequence[Finding]) -> tuple[list[float], int]:
    """Return one probability for each class, and the class that the findings amount to."""
    by_label = {finding.label: finding for finding in findings}
    found = [by_label[recipe.report.outputs[name].label] for name in recipe.reported_classes]
    if recipe.is_binary:
        positive = found[0].probability
        return [1.0 - positive, positive], int(found[0].is_positive)
    scores = [finding.probability for finding in found]
    return scores, int(answered(np.array([scores]), recipe)[0])


def answered(scores: NDArray[np.float64], recipe: Recipe) -> NDArray[np.int64]:
    """Return the class that probabilities amount to, [N].

    It is the likeliest one; of grades the expected grade, rounded, because grades are judged by how
    far they are off.

    Parameters
    ----------
    scores
        [N, K], one probability for each class.
    """
    if recipe.data.ordinal:
        return np.rint(scores @ np.arange(scores.shape[1])).astype(np.int64)
    return scores.argmax(axis=1)


def grade_error(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference between the expected grade and the true one.

    Parameters
    ----------
    logits
        [N, K], one for each grade, lowest first.
    shares
        [N, K], how much of each grade a picture shows: 1 for the true one, unless it was mixed.
    """
    grades = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    expected = logits.softmax(dim=1) @ grades
    return (expected - shares @ grades).square().mean()


def started_network(recipe: Recipe, start_weights: Path | None) -> torch.nn.Module:
    """Build a recipe's network with its start weights, all logits 0."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network_ref, recipe.input, recipe.id)
    if start_weights is not None:
        start = recipe.start_weights
        load_start_weights(network, start_weights, start.sha256 if start else "")
    zero_last_layer(network)
    return network


def augmented_logits(
    recipe: Recipe, canvases: NDArray[np.float16], truth: NDArray[np.float32], seed: int
) -> Callable[[torch.nn.Module, NDArray[np.int64]], tuple[torch.Tensor, torch.Tensor]]:
    """Return what gives the logits, [B, K], and truth, [B, K], of some pictures, changed at random.

    The recipe's dropout is applied before the last linear layer.

    Parameters
    ----------
    truth
        [N, K], how much of each class a picture shows. Mixed pictures show some of several.
    """
    augment = build_augment(recipe.augment, *recipe.input.plane, seed)
    mix = build_mix(recipe.augment)

    def logits_of(
        network: torch.nn.Module, rows: NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        changed = (augment(canvases[row].astype(np.float32)) for row in rows)
        batch = _on_device(np.stack([normalise(item, recipe.input) for item in changed]), network)
        batch, shares = mix(batch, torch.from_numpy(truth[rows]).to(batch.device))
        module: Any = network
        pooled = module.forward_head(module.forward_features(batch), pre_logits=True)
        kept = functional.dropout(pooled, recipe.network.dropout)
        return module.get_classifier()(kept), shares

    return logits_of


def network_logits(
    network: torch.nn.Module, pictures: Pictures, recipe: Recipe
) -> NDArray[np.float64]:
    """Return the logits, [N, K], of pictures as they are."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures.truth), EVALUATION_BATCH):
            canvases = pictures.canvases[start : start + EVALUATION_BATCH].astype(np.float32)
            batch = np.stack([normalise(canvas, recipe.input) for canvas in canvases])
            parts.append(network(_on_device(batch, network)).double().cpu().numpy())
    return np.concatenate(parts)


def _on_device(batch: NDArray[np.float32], network: torch.nn.Module) -> torch.Tensor:
    device = next(network.parameters()).device
    return torch.from_numpy(batch).to(device, memory_format=torch.channels_last)


def _pictures(samples: Sequence[Sample], recipe: Recipe, progress: Progress) -> Pictures:
    truth = np.array([sample.label for sample in samples], np.int64)
    return Pictures(load_canvases(samples, recipe.input, progress), truth)


def _counts(samples: Sequence[Sample], classes: Sequence[str]) -> Mapping[str, int]:
    counts = Counter(sample.label for sample in samples)
    return {name: counts[index] for index, name in enumerate(classes) if counts[index]}


def _class_weights(recipe: Recipe, truth: NDArray[np.int64]) -> torch.Tensor:
    """Return one weight for each class, 1 on average over the pictures."""
    classes = len(recipe.data.classes)
    if not recipe.loss.balance:
        return torch.ones(classes)
    counts = np.bincount(truth, minlength=classes)
    return torch.tensor(len(truth) / (classes * counts), dtype=torch.float32)
