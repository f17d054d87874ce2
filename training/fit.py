"""The training loop: one network, one recipe, seeded and resumable at every epoch.

Each epoch draws its randomness from the seed and its own number, so a training that was stopped and
resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inference.manifest import Calibration
from inference.preprocessing import normalise
from training.augment import build_augment
from training.calibrate import calibrated
from training.errors import TrainingDivergedError
from training.metrics import Answers, point_figures
from training.progress import Progress
from training.recipe import Recipe
from training.resume import ResumeFile

EVALUATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Pictures:
    """Canvases of ``training.canvases`` with the position of their true class."""

    canvases: NDArray[np.float16]
    truth: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to: mean training loss, validation log loss and figures."""

    number: int
    train_loss: float
    log_loss: float
    auc: float
    f1: float
    accuracy: float
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The network with the best epoch's weights, and how it got there."""

    network: torch.nn.Module
    history: tuple[Epoch, ...]
    best: Epoch


class Trainer:
    """Trains `network` in place.

    Parameters
    ----------
    network
        A timm module, with its start weights.
    recipe
        What to do.
    train, val
        The pictures; only `train` is augmented and learnt from.
    resume
        Where the state is kept between epochs.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        recipe: Recipe,
        train: Pictures,
        val: Pictures,
        resume: ResumeFile,
    ) -> None:
        self.recipe = recipe
        self.train = train
        self.val = val
        self.resume = resume
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # channels_last makes convolutions of mobile networks 1.7 times faster on CPUs
        self.network = network.to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.network.freeze or ("\0",)))
        plan = recipe.schedule
        self.batch = min(plan.batch_size, len(train.truth))
        self.steps = len(train.truth) // self.batch
        self.optimiser = torch.optim.AdamW(
            [p for p in network.parameters() if p.requires_grad],
            lr=plan.learning_rate,
            weight_decay=plan.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser,
            plan.learning_rate,
            total_steps=max(2, plan.epochs * self.steps),
            pct_start=plan.warm_up,
            cycle_momentum=False,
        )
        self.average = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(plan.average_decay), use_buffers=True
        )
        self.class_weights = _class_weights(recipe, train.truth).to(self.device)

    def fit(self, progress: Progress) -> Fitted:
        """Run all epochs that are left, and return the best one's network.

        Raises
        ------
        TrainingDivergedError
            The loss is no longer a number.
        """
        history: list[Epoch] = []
        best_weights: dict[str, torch.Tensor] = {}
        state = self.resume.load()
        if state is not None:
            history, best_weights = self._restore(state)
            progress.say(f"Resumed after epoch {len(history)}.")
        while not is_finished(history, self.recipe):
            epoch = self._epoch(len(history) + 1, progress)
            history.append(epoch)
            if best_of(history, self.recipe.select.metric) is epoch:
                best_weights = _copied(self.average.module)
            self.resume.save(self._state(history, best_weights))
            progress.say(_line(epoch, self.recipe.schedule.epochs))
        self.average.module.load_state_dict(best_weights)
        best = best_of(history, self.recipe.select.metric)
        return Fitted(self.average.module, tuple(history), best)

    def _epoch(self, number: int, progress: Progress) -> Epoch:
        started = time.monotonic()
        seed = self.recipe.seed * 1000 + number
        torch.manual_seed(seed)
        augment = build_augment(self.recipe.augment, *self.recipe.input.plane, seed)
        order = np.random.default_rng(seed).permutation(len(self.train.truth))
        _set_training(self.network, norms=self.recipe.network.batch_norm == "trained")
        losses = []
        with progress.stage(f"Epoch {number}", self.steps) as advance:
            for step in range(self.steps):
                rows = order[step * self.batch : (step + 1) * self.batch]
                losses.append(self._step(rows, augment))
                advance()
        mean = math.fsum(losses) / len(losses)
        if not math.isfinite(mean):
            raise TrainingDivergedError(
                f"The loss is no longer a number in epoch {number}; lower schedule.learning_rate."
            )
        epoch = self._judge(number, mean)
        return replace(epoch, seconds=round(time.monotonic() - started, 1))

    def _step(
        self,
        rows: NDArray[np.int64],
        augment: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    ) -> float:
        spec = self.recipe.input
        tensors = [
            normalise(augment(self.train.canvases[row].astype(np.float32)), spec) for row in rows
        ]
        logits = self._training_logits(self._to_device(np.stack(tensors)))
        loss = self._loss(logits, torch.from_numpy(self.train.truth[rows]).to(self.device))
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss.item()

    def _training_logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run the network with the recipe's dropout before its last linear layer."""
        network: Any = self.network
        pooled = network.forward_head(network.forward_features(inputs), pre_logits=True)
        kept = functional.dropout(pooled, self.recipe.network.dropout)
        logits: torch.Tensor = network.get_classifier()(kept)
        return logits

    def _loss(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        smoothing = self.recipe.loss.label_smoothing
        if not self.recipe.is_binary:
            return functional.cross_entropy(
                logits, truth, weight=self.class_weights, label_smoothing=smoothing
            )
        targets = truth * (1.0 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits[:, 0], targets, weight=self.class_weights[truth]
        )

    def _judge(self, number: int, train_loss: float) -> Epoch:
        logits = network_logits(self.average.module, self.val, self.recipe)
        scores = calibrated(logits, Calibration())
        truth = self.val.truth
        nobody = np.full(len(truth), "")
        answers = Answers(truth, scores, scores.argmax(axis=1), nobody, nobody)
        figures = point_figures(answers, len(self.recipe.data.classes))
        log_loss = -np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-7)).mean()
        shown = {name: round(figures[name], 5) for name in ("auc", "f1", "accuracy")}
        return Epoch(number, round(train_loss, 5), round(float(log_loss), 5), **shown)

    def _to_device(self, batch: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(batch).to(self.device, memory_format=torch.channels_last)

    def _state(self, history: list[Epoch], best: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "history": [asdict(epoch) for epoch in history],
            "best": best,
        }

    def _restore(self, state: dict[str, Any]) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        return [Epoch(**epoch) for epoch in state["history"]], state["best"]


def best_of(history: list[Epoch], metric: str) -> Epoch:
    """Return the best epoch by `metric`; of equals the first one."""
    if metric == "log_loss":
        return min(history, key=lambda epoch: epoch.log_loss)
    return max(history, key=lambda epoch: float(getattr(epoch, metric)))


def is_finished(history: list[Epoch], recipe: Recipe) -> bool:
    """Tell whether all epochs are done, or the last ones brought nothing better."""
    plan = recipe.schedule
    if len(history) >= plan.epochs:
        return True
    if not plan.patience or not history:
        return False
    return len(history) - best_of(history, recipe.select.metric).number >= plan.patience


def network_logits(
    network: torch.nn.Module, pictures: Pictures, recipe: Recipe
) -> NDArray[np.float64]:
    """Return the logits, [N, K], of pictures as they are."""
    network.eval()
    device = next(network.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pictures.truth), EVALUATION_BATCH):
            canvases = pictures.canvases[start : start + EVALUATION_BATCH].astype(np.float32)
            batch = np.stack([normalise(canvas, recipe.input) for canvas in canvases])
            parts.append(network(torch.from_numpy(batch).to(device)).double().cpu().numpy())
    return np.concatenate(parts)


def _class_weights(recipe: Recipe, truth: NDArray[np.int64]) -> torch.Tensor:
    """Return one weight for each class, 1 on average over the pictures."""
    classes = len(recipe.data.classes)
    if not recipe.loss.balance:
        return torch.ones(classes)
    counts = np.bincount(truth, minlength=classes)
    return torch.tensor(len(truth) / (classes * counts), dtype=torch.float32)


def _set_training(network: torch.nn.Module, *, norms: bool) -> None:
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(norms)


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _line(epoch: Epoch, epochs: int) -> str:
    return (
        f"Epoch {epoch.number}/{epochs}: loss {epoch.train_loss:.4f}, validation log loss "
        f"{epoch.log_loss:.4f}, AUC {epoch.auc:.4f}, F1 {epoch.f1:.4f}, "
        f"accuracy {epoch.accuracy:.4f}"
    )
