"""What the training loop, packaging and evaluation need to know of a kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from inference.config import InferenceConfig
from inference.manifest import Calibration
from inference.registry import ModelPackage
from training.progress import Progress
from training.recipe import Recipe

StepLoss = Callable[[torch.nn.Module, NDArray[np.int64]], torch.Tensor]
"""The loss of some training samples, given by their positions."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to: mean training loss and the figures of :meth:`Task.judge`."""

    number: int
    train_loss: float
    figures: Mapping[str, float]
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return one flat JSON object."""
        return {
            "number": self.number,
            "train_loss": self.train_loss,
            **self.figures,
            "seconds": self.seconds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Epoch:
        """Read what :meth:`to_json` wrote."""
        figures = dict(data)
        number, loss = figures.pop("number"), figures.pop("train_loss")
        seconds = figures.pop("seconds")
        return cls(number, loss, figures, seconds)


class Task(Protocol):
    """Checked training and validation data of one recipe, in memory."""

    size: int
    """Training samples."""
    data_sha256: str
    """Digest over everything that is learnt from or judged by."""
    pictures: Mapping[str, Mapping[str, int]]
    """Samples by part (``train``, ``val``) and class."""

    def network(self) -> torch.nn.Module:
        """Build the network with its start weights."""

    def begin_epoch(self, seed: int) -> StepLoss:
        """Return the loss of augmented samples; one seed gives one sequence of changes."""

    def judge(self, network: torch.nn.Module) -> dict[str, float]:
        """Return validation figures; the recipe's ``select.metric`` is one of them."""

    def decide(self, network: torch.nn.Module) -> tuple[Calibration, dict[str, float]]:
        """Return calibration and operating threshold by class, chosen on validation."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of a model on one split, and how to draw them.

    Attributes
    ----------
    record
        ``n``, ``metrics``, ``per_class``, ``per_source``, and ``confusion_matrix`` where there is
        one; a figure is ``{"value": …, "ci95": [low, high]}``.
    draw
        Writes one PNG with curves of the figures and of the training's history.
    """

    record: Mapping[str, Any]
    draw: Callable[[Path, Sequence[Epoch]], None]


class Kind(Protocol):
    """One module of ``training.tasks``."""

    def open_task(
        self, recipe: Recipe, data: Path, start_weights: Path | None, progress: Progress
    ) -> Task:
        """Read and check everything before training."""

    def evaluate(
        self,
        recipe: Recipe,
        package: ModelPackage,
        config: InferenceConfig,
        data: Path,
        split: str,
        progress: Progress,
    ) -> Evaluation:
        """Run a model over one split of a data folder, through the path that serves patients."""
