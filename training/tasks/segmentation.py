"""Pictures and volumes with masks: one logit for each class at each pixel or voxel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from numpy.typing import NDArray

from inference.config import InferenceConfig
from inference.errors import ImageError
from inference.manifest import Calibration
from inference.model_server import ModelServer
from inference.networks import build_network
from inference.pipelines.segmentation import normalised
from inference.preprocessing import normalise
from inference.registry import ModelPackage, Registry
from inference.volume_input import seen_slices
from training.errors import PictureError
from training.mask_augment import build_mask_augment
from training.mask_curves import draw_mask_curves
from training.mask_metrics import MaskAnswer, count_voxels, evaluate_masks, figures_of
from training.masked_data import (
    MaskedCanvas,
    MaskedSample,
    load_masked,
    load_masked_canvases,
    masked_digest,
    of_split,
    read_masked,
    slices_of,
)
from training.progress import Progress
from training.recipe import Recipe
from training.start_weights import load_encoder, load_whole_network
from training.task import Evaluation, StepLoss

THRESHOLDS = np.arange(0.2, 0.81, 0.05)
"""Of a structure that is told from background by one logit."""
WINDOWS = 16
"""Of slices, judged at once."""
OVERLAP = 0.25
"""Of windows when an epoch is judged; less than serving's, which takes longer."""


def open_task(
    recipe: Recipe, data: Path, start_weights: Path | None, progress: Progress
) -> SegmentationTask:
    """See :class:`training.task.Kind`."""
    samples = load_masked(data, recipe.data, recipe.seed)
    train, val = (of_split(samples, name) for name in ("train", "val"))
    return SegmentationTask(recipe, start_weights, train, val, progress)


class SegmentationTask:
    """See :class:`training.task.Task`."""

    def __init__(
        self,
        recipe: Recipe,
        start_weights: Path | None,
        train: Sequence[MaskedSample],
        val: Sequence[MaskedSample],
        progress: Progress,
    ) -> None:
        self.recipe = recipe
        self.start_weights = start_weights
        self.data_sha256 = masked_digest((*train, *val))
        self.network()  # a network that doesn't fit is found before volumes are read
        learnt = load_masked_canvases(train, recipe, progress)
        self._val = load_masked_canvases(val, recipe, progress)
        self._val_samples = val
        self.pictures: Mapping[str, Mapping[str, int]] = {
            "train": _counts(learnt, recipe.data.classes),
            "val": _counts(self._val, recipe.data.classes),
        }
        if self._is_slicewise:
            learnt = [plane for canvas in learnt for plane in slices_of(canvas, recipe.input)]
        self._train = learnt
        self.size = recipe.augment.patches * len(learnt)
        is_single = recipe.activation == "sigmoid"
        self._loss = DiceCELoss(
            sigmoid=is_single,
            softmax=not is_single,
            to_onehot_y=not is_single,
            include_background=is_single,
            batch=True,
        )

    @property
    def _is_slicewise(self) -> bool:
        return self.recipe.input.unit == "series" and len(self.recipe.input.shape) == 3

    def network(self) -> torch.nn.Module:
        """See :class:`training.task.Task`."""
        torch.manual_seed(self.recipe.seed)
        network = build_network(self.recipe.network_ref, self.recipe.input, self.recipe.id)
        if self.start_weights is not None:
            start = self.recipe.start_weights
            load = load_encoder if self.start_weights.suffix == ".npz" else load_whole_network
            load(network, self.start_weights, start.sha256 if start else "")
        return network

    def begin_epoch(self, seed: int) -> StepLoss:
        """See :class:`training.task.Task`."""
        recipe = self.recipe
        sides = recipe.augment.patch or recipe.input.shape[1:]
        augment = build_mask_augment(recipe.augment, sides, seed)

        def step_loss(network: torch.nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
            tensors, masks = [], []
            for row in rows:
                values, mask = augment(self._train[row % len(self._train)])
                tensors.append(_tensor(values, recipe))
                masks.append(mask[np.newaxis])
            logits = network(_on_device(np.stack(tensors), network))
            truth = torch.from_numpy(np.stack(masks)).to(logits.device)
            loss: torch.Tensor = self._loss(logits.float(), truth.float())
            return loss

        return step_loss

    def judge(self, network: torch.nn.Module) -> dict[str, float]:
        """See :class:`training.task.Task`; means over samples and classes."""
        thresholds = dict.fromkeys(self.recipe.data.classes, 0.5)
        figures = figures_of(self._answers(self._scores(network), thresholds))
        return {name: float(figures[name].mean()) for name in ("dice", "iou")}

    def decide(self, network: torch.nn.Module) -> tuple[Calibration, dict[str, float]]:
        """See :class:`training.task.Task`; with several classes the most probable one wins."""
        classes = self.recipe.data.classes
        if self.recipe.activation == "softmax":
            return Calibration(), dict.fromkeys(classes, 0.5)
        scores = self._scores(network)
        dice = [
            figures_of(self._answers(scores, dict.fromkeys(classes, threshold)))["dice"].mean()
            for threshold in THRESHOLDS
        ]
        best = round(float(THRESHOLDS[int(np.argmax(dice))]), 2)
        return Calibration(), dict.fromkeys(classes, best)

    def _scores(self, network: torch.nn.Module) -> list[NDArray[np.float32]]:
        """Return the probabilities, [K, ...], of each validation sample on the network's grid."""
        network.eval()
        with torch.inference_mode():
            return [self._score(network, canvas) for canvas in self._val]

    def _score(self, network: torch.nn.Module, canvas: MaskedCanvas) -> NDArray[np.float32]:
        recipe, sides = self.recipe, self.recipe.input.shape[1:]
        values = canvas.values.astype(np.float32)
        if self._is_slicewise:
            tensors = [
                normalised(plane, recipe.input) for plane in seen_slices(values, recipe.input)
            ]
        else:
            tensors = [_tensor(values, recipe)]
        black = float(-np.float32(recipe.input.mean[0]) / np.float32(recipe.input.std[0]))
        logits = sliding_window_inference(
            _on_device(np.stack(tensors), network),
            sides,
            WINDOWS if self._is_slicewise else 1,
            network,
            overlap=OVERLAP,
            mode="gaussian",
            cval=black,
        )
        is_single = recipe.activation == "sigmoid"
        scores = (logits.sigmoid() if is_single else logits.softmax(dim=1)[:, 1:]).float().cpu()
        return scores.transpose(0, 1).numpy() if self._is_slicewise else scores[0].numpy()

    def _answers(
        self, scores: Sequence[NDArray[np.float32]], thresholds: Mapping[str, float]
    ) -> list[MaskAnswer]:
        answers = []
        is_single = self.recipe.activation == "sigmoid"
        for item, canvas, found in zip(self._val_samples, self._val, scores, strict=True):
            # Softmax: the background's share is what the others leave.
            winners = np.concatenate([1.0 - found.sum(axis=0, keepdims=True), found]).argmax(axis=0)
            counts = [
                count_voxels(
                    canvas.mask == number,
                    found[number - 1] >= threshold if is_single else winners == number,
                    canvas.fov,
                )
                for number, threshold in enumerate(thresholds.values(), start=1)
            ]
            answers.append(_answer(counts, item))
        return answers


def evaluate(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    data: Path,
    split: str,
    progress: Progress,
) -> Evaluation:
    """See :class:`training.task.Kind`."""
    samples = of_split(load_masked(data, recipe.data, recipe.seed), split)
    answers = collect_mask_answers(recipe, package, config, samples, progress)
    classes = recipe.data.classes
    draw = partial(draw_mask_curves, answers=answers, classes=classes, title=recipe.name)
    return Evaluation(evaluate_masks(answers, classes), draw)


def collect_mask_answers(
    recipe: Recipe,
    package: ModelPackage,
    config: InferenceConfig,
    samples: Sequence[MaskedSample],
    progress: Progress,
) -> list[MaskAnswer]:
    """Ask the model about each sample; masks are compared on the grid of the source.

    Raises
    ------
    DataError
        A sample or its mask can't be used; the sentence names it.
    """
    server = ModelServer(Registry((package,)), config)
    labels = [recipe.report.outputs[name].label for name in recipe.data.classes]
    answers = []
    with progress.stage("Evaluating", len(samples)) as advance:
        for item in samples:
            source, truth = read_masked(item, recipe)
            try:
                prediction = server.predict(package.manifest.id, source)
            except ImageError as error:
                raise PictureError(f"{item.sample.file} can't be used: {error}") from error
            masks = {segment.label: segment.mask for segment in prediction.segments}
            counts = [
                count_voxels(truth.mask == number, masks[label], truth.fov)
                for number, label in enumerate(labels, start=1)
            ]
            answers.append(_answer(counts, item))
            advance()
    return answers


def _answer(counts: Sequence[tuple[int, int, int]], item: MaskedSample) -> MaskAnswer:
    common, true, reported = np.array(counts, np.int64).T
    return MaskAnswer(common, true, reported, item.sample.group, item.sample.source)


def _tensor(values: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Return values in [0, 1] as the network's input, [C, ...]."""
    if recipe.input.unit == "series":
        planes = np.moveaxis(values, -1, 0) if recipe.input.neighbours else values
        return normalised(planes, recipe.input)
    return normalise(values, recipe.input)


def _on_device(batch: NDArray[np.float32], network: torch.nn.Module) -> torch.Tensor:
    layout = torch.channels_last_3d if batch.ndim == 5 else torch.channels_last
    device = next(network.parameters()).device
    return torch.from_numpy(np.array(batch)).to(device, memory_format=layout)


def _counts(canvases: Sequence[MaskedCanvas], classes: Sequence[str]) -> Mapping[str, int]:
    """Return how many samples show each class."""
    return {
        name: sum(bool((canvas.mask == number).any()) for canvas in canvases)
        for number, name in enumerate(classes, start=1)
    }
