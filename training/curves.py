"""One picture that shows how good a checkpoint is: ROC, calibration, confusion and more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from training.label_metrics import LabelAnswers
from training.metrics import Answers, confusion, one_class_auc, weighted_auc
from training.task import Epoch

BINS = 5
"""Of the calibration curve; few, because validation sets are small."""


def draw_curves(
    path: Path, history: Sequence[Epoch], answers: Answers, classes: Sequence[str], title: str
) -> None:
    """Write the picture as PNG."""
    figure = Figure(figsize=(13, 8), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    shown = range(1, 2) if len(classes) == 2 else range(len(classes))
    _roc(axes[0, 0], answers, classes, shown)
    _precision_recall(axes[0, 1], answers, classes, shown)
    _calibration(axes[0, 2], answers, classes, shown)
    _confusion(axes[1, 0], answers, classes)
    _scores(axes[1, 1], answers, classes, shown[-1])
    draw_history(axes[1, 2], history)
    figure.suptitle(f"{title}: {len(answers.truth)} validation pictures")
    figure.savefig(path, metadata={"Software": None})


def draw_label_curves(
    path: Path, history: Sequence[Epoch], answers: LabelAnswers, classes: Sequence[str], title: str
) -> None:
    """Write the picture of a model of several yes-or-no labels as PNG."""
    figure = Figure(figsize=(13, 8), layout="constrained", dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    aucs = []
    for index, name in enumerate(classes):
        truth, scores = answers.truth[:, index] == 1, answers.scores[:, index]
        if truth.all() or not truth.any():
            continue
        area = float(weighted_auc(scores, truth, np.ones((1, len(truth))))[0])
        aucs.append((area, f"{name} ({int(truth.sum())})"))
        wrong, right, _ = roc_curve(truth, scores)
        axes[0, 0].plot(wrong, right, linewidth=0.9, label=name)
    axes[0, 0].plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes[0, 0].set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    axes[0, 0].legend(fontsize=7, loc="lower right")
    aucs.sort()
    axes[0, 1].barh([name for _, name in aucs], [area for area, _ in aucs])
    axes[0, 1].axvline(0.5, color="0.4", linestyle=":")
    axes[0, 1].set(title="Area under the ROC curve (pictures that show it)", xlim=(0, 1))
    order = np.argsort(answers.scores.ravel(), kind="stable")
    parts = np.array_split(order, 2 * BINS)
    stated = [float(answers.scores.ravel()[part].mean()) for part in parts]
    seen = [float(answers.truth.ravel()[part].mean()) for part in parts]
    axes[1, 0].plot(stated, seen, marker="o")
    axes[1, 0].plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes[1, 0].set(title="Calibration", xlabel="stated probability", ylabel="share that has it")
    draw_history(axes[1, 1], history)
    figure.suptitle(f"{title}: {len(answers.truth)} validation pictures")
    figure.savefig(path, metadata={"Software": None})


def _roc(axes: Axes, answers: Answers, classes: Sequence[str], shown: Sequence[int]) -> None:
    for index in shown:
        wrong, right, _ = roc_curve(answers.truth == index, answers.scores[:, index])
        axes.plot(wrong, right, label=f"{classes[index]} {one_class_auc(answers, index):.3f}")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.set(title="ROC (area)", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right")


def _precision_recall(
    axes: Axes, answers: Answers, classes: Sequence[str], shown: Sequence[int]
) -> None:
    for index in shown:
        precision, recall, _ = precision_recall_curve(
            answers.truth == index, answers.scores[:, index]
        )
        axes.plot(recall, precision, label=classes[index])
    axes.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
    axes.legend(loc="lower left")


def _calibration(
    axes: Axes, answers: Answers, classes: Sequence[str], shown: Sequence[int]
) -> None:
    for index in shown:
        order = np.argsort(answers.scores[:, index], kind="stable")
        parts = np.array_split(order, min(BINS, len(order)))
        stated = [float(answers.scores[part, index].mean()) for part in parts]
        seen = [float((answers.truth[part] == index).mean()) for part in parts]
        axes.plot(stated, seen, marker="o", label=classes[index])
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.set(title="Calibration", xlabel="stated probability", ylabel="share that has it")


def _confusion(axes: Axes, answers: Answers, classes: Sequence[str]) -> None:
    matrix = confusion(answers, len(classes))
    axes.imshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if count > matrix.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(title="Confusion matrix", xlabel="reported", ylabel="true")


def _scores(axes: Axes, answers: Answers, classes: Sequence[str], index: int) -> None:
    bins = [step / 20 for step in range(21)]
    for label, name in enumerate(classes):
        values = answers.scores[answers.truth == label, index]
        axes.hist(values, bins=bins, alpha=0.6, label=name)
    axes.set(title=f"Probability of {classes[index]}", xlabel="probability", ylabel="pictures")
    axes.legend()


def draw_history(axes: Axes, history: Sequence[Epoch]) -> None:
    """Draw the figures of the epochs of a training."""
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.train_loss for epoch in history], label="training loss")
    for name in history[0].figures if history else ():
        values = [epoch.figures[name] for epoch in history]
        axes.plot(numbers, values, label=f"validation {name.replace('_', ' ')}")
    axes.set(title="Training", xlabel="epoch", ylim=(0, None))
    axes.legend()
