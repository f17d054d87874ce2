"""One picture that shows how good a detector is: precision, overlap, scores, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from training.box_metrics import BoxAnswer, best_overlaps, right_boxes
from training.curves import draw_history
from training.task import Epoch


def draw_box_curves(
    path: Path,
    history: Sequence[Epoch],
    answers: Mapping[str, Sequence[BoxAnswer]],
    title: str,
) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(10, 8), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    for name, items in answers.items():
        _precision_recall(axes[0, 0], name, items)
        overlaps = np.concatenate([best_overlaps(answer) for answer in items])
        axes[0, 1].hist(overlaps, bins=np.linspace(0.0, 1.0, 21).tolist(), alpha=0.6, label=name)
    axes[0, 0].set(
        title="Precision and recall of boxes (IoU 0.5)",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.03),
        ylim=(0, 1.03),
    )
    if axes[0, 0].lines:
        axes[0, 0].legend(loc="lower left")
    axes[0, 1].set(
        title="Overlap of true boxes with the best reported one", xlabel="IoU", ylabel="boxes"
    )
    _scores(axes[1, 0], answers)
    draw_history(axes[1, 1], history)
    count = len(next(iter(answers.values())))
    figure.suptitle(f"{title}: {count} validation pictures")
    figure.savefig(path, metadata={"Software": None})


def _precision_recall(axes: Axes, name: str, items: Sequence[BoxAnswer]) -> None:
    """Draw the curve; true boxes that nothing was said about end it before a recall of 1."""
    right = np.concatenate([right_boxes(answer) for answer in items])
    true = sum(len(answer.truth) for answer in items)
    if not right.any() or not true:
        return
    scores = np.concatenate([answer.scores for answer in items])
    precision, recall, _ = precision_recall_curve(right, scores)
    axes.plot(recall * right.sum() / true, precision, label=name)


def _scores(axes: Axes, answers: Mapping[str, Sequence[BoxAnswer]]) -> None:
    items = [answer for each in answers.values() for answer in each]
    right = np.concatenate([right_boxes(answer) for answer in items])
    scores = np.concatenate([answer.scores for answer in items])
    bins = np.linspace(0.0, 1.0, 21).tolist()
    axes.hist(scores[right], bins=bins, alpha=0.6, label="right")
    axes.hist(scores[~right], bins=bins, alpha=0.6, label="wrong")
    axes.set(title="Boxes by score", xlabel="score", ylabel="boxes")
    axes.legend()
