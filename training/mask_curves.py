"""One picture that shows how good a segmentation is: overlap, volumes, training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.curves import draw_history
from training.mask_metrics import MaskAnswer, figures_of
from training.task import Epoch


def draw_mask_curves(
    path: Path,
    history: Sequence[Epoch],
    answers: Sequence[MaskAnswer],
    classes: Sequence[str],
    title: str,
) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(10, 8), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    values = figures_of(answers)
    for place, name in ((axes[0, 0], "dice"), (axes[0, 1], "iou")):
        _spread(place, values[name], classes)
        place.set(title={"dice": "Dice", "iou": "IoU"}[name], ylim=(0, 1.03))
    _volumes(axes[1, 0], answers, classes)
    draw_history(axes[1, 1], history)
    figure.suptitle(f"{title}: {len(answers)} validation samples")
    figure.savefig(path, metadata={"Software": None})


def _spread(axes: Axes, values: NDArray[np.float64], classes: Sequence[str]) -> None:
    axes.boxplot(list(values.T), tick_labels=list(classes), showfliers=False)
    for number, column in enumerate(values.T, start=1):
        axes.plot(np.full(len(column), number), column, "o", alpha=0.6)


def _volumes(axes: Axes, answers: Sequence[MaskAnswer], classes: Sequence[str]) -> None:
    largest = 1
    for number, name in enumerate(classes):
        true = [int(answer.true[number]) for answer in answers]
        reported = [int(answer.reported[number]) for answer in answers]
        largest = max(largest, *true, *reported)
        axes.plot(true, reported, "o", alpha=0.7, label=name)
    axes.plot([0, largest], [0, largest], color="0.7", linestyle=":")
    axes.set(title="Size in voxels or pixels", xlabel="true", ylabel="reported")
    axes.legend(loc="upper left")
