"""The training loop: one network, one recipe, seeded and resumable at every epoch.

Each epoch draws its randomness from the seed and its own number, so a training that was stopped and
resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.errors import TrainingDivergedError
from training.log import Log
from training.norms import NORMS, measure_norms
from training.progress import Progress
from training.recipe import Recipe
from training.resume import ResumeFile
from training.task import Epoch, Task

LIBRARIES = ("torch", "timm", "monai", "numpy", "scikit-learn")
LOWER_IS_BETTER = {"log_loss"}
MEASURED = 8
"""Batches that statistics are taken from."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The network with the best epoch's weights, and how it got there."""

    network: torch.nn.Module
    history: tuple[Epoch, ...]
    best: Epoch
    made_on: Mapping[str, Any]
    """The machine and the versions of libraries."""


class Trainer:
    """Trains the network of a task.

    Parameters
    ----------
    task
        The data, the network and the loss.
    recipe
        What to do.
    resume
        Where the state is kept between epochs.
    """

    def __init__(self, task: Task, recipe: Recipe, resume: ResumeFile) -> None:
        self.task = task
        self.recipe = recipe
        self.resume = resume
        network = task.network().to(device())
        # channels_last makes convolutions of mobile networks 1.7 times faster on CPUs
        volumes = len(recipe.input.shape) == 4
        layout = torch.channels_last_3d if volumes else torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]  # no stub
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.network.freeze or ("\0",)))
        self.network = network
        plan = recipe.schedule
        self.batch = min(plan.batch_size, task.size)
        self.steps = task.size // self.batch
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
        if recipe.network.batch_norm == "measured":
            self._measure()
        self.average = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(plan.average_decay), use_buffers=True
        )

    def fit(self, progress: Progress, log: Log | None = None) -> Fitted:
        """Run all epochs that are left, and return the best one's network.

        Parameters
        ----------
        log
            Takes every epoch's figures, if given.

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
        made_on = state["made_on"] if state is not None else machine()
        while not is_finished(history, self.recipe):
            epoch = self._epoch(len(history) + 1, progress)
            history.append(epoch)
            if best_of(history, self.recipe.select.metric) is epoch:
                best_weights = _copied(self.average.module)
            self.resume.save(self._state(history, best_weights, made_on))
            if log is not None:
                log.epoch(epoch.number, self._logged(epoch))
            progress.say(_line(epoch, self.recipe.schedule.epochs))
        self.average.module.load_state_dict(best_weights)
        self.resume.save(_finished(history, best_weights, made_on))
        best = best_of(history, self.recipe.select.metric)
        return Fitted(self.average.module, tuple(history), best, made_on)

    def _measure(self) -> None:
        torch.manual_seed(self.recipe.seed)
        step_loss = self.task.begin_epoch(self.recipe.seed)
        order = np.random.default_rng(self.recipe.seed).permutation(self.task.size)
        batches = [order[start : start + self.batch] for start in range(0, len(order), self.batch)]
        self.network.eval()
        measure_norms(self.network, (step_loss(self.network, rows) for rows in batches[:MEASURED]))

    def _logged(self, epoch: Epoch) -> dict[str, float]:
        figures = {f"validation/{name}": value for name, value in epoch.figures.items()}
        rate = float(self.schedule.get_last_lr()[0])
        return {"training/loss": epoch.train_loss, "training/learning_rate": rate, **figures}

    def _epoch(self, number: int, progress: Progress) -> Epoch:
        started = time.monotonic()
        seed = self.recipe.seed * 1000 + number
        torch.manual_seed(seed)
        step_loss = self.task.begin_epoch(seed)
        order = np.random.default_rng(seed).permutation(self.task.size)
        _set_training(self.network, norms=self.recipe.network.batch_norm != "frozen")
        losses = []
        with progress.stage(f"Epoch {number}", self.steps) as advance:
            for step in range(self.steps):
                loss = step_loss(self.network, order[step * self.batch : (step + 1) * self.batch])
                losses.append(self._descend(loss))
                advance()
        mean = math.fsum(losses) / len(losses)
        if not math.isfinite(mean):
            raise TrainingDivergedError(
                f"The loss is no longer a number in epoch {number}; lower schedule.learning_rate."
            )
        self.average.module.eval()
        figures = self.task.judge(self.average.module)
        rounded = {name: round(value, 5) for name, value in figures.items()}
        epoch = Epoch(number, round(mean, 5), rounded)
        return replace(epoch, seconds=round(time.monotonic() - started, 1))

    def _descend(self, loss: torch.Tensor) -> float:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss.item()

    def _state(
        self, history: list[Epoch], best: dict[str, torch.Tensor], made_on: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            **_finished(history, best, made_on),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> tuple[list[Epoch], dict[str, torch.Tensor]]:
        if "network" in state:  # else it is finished
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
        return [Epoch.from_json(epoch) for epoch in state["history"]], state["best"]


def machine() -> dict[str, Any]:
    """Return what training runs on, as metrics.json records it."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "libraries": {name: version(name) for name in LIBRARIES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores{gpu}",
    }


def device() -> torch.device:
    """Return where training runs: the first GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_of(history: list[Epoch], metric: str) -> Epoch:
    """Return the best epoch by `metric`; of equals the first one."""
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    return max(history, key=lambda epoch: sign * epoch.figures[metric])


def is_finished(history: list[Epoch], recipe: Recipe) -> bool:
    """Tell whether all epochs are done, or the last ones brought nothing better."""
    plan = recipe.schedule
    if len(history) >= plan.epochs:
        return True
    if not plan.patience or not history:
        return False
    return len(history) - best_of(history, recipe.select.metric).number >= plan.patience


def _set_training(network: torch.nn.Module, *, norms: bool) -> None:
    network.train()
    for module in network.modules():
        if isinstance(module, NORMS):
            module.train(norms)


def _finished(
    history: list[Epoch], best: dict[str, torch.Tensor], made_on: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is needed of a training that is over."""
    return {"history": [epoch.to_json() for epoch in history], "best": best, "made_on": made_on}


def _copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _line(epoch: Epoch, epochs: int) -> str:
    figures = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in epoch.figures.items()]
    shown = ", ".join(figures)
    return f"Epoch {epoch.number}/{epochs}: loss {epoch.train_loss:.4f}; validation {shown}"
