"""How good a model of several yes-or-no labels is, with bootstrap 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics import Values, draws, interval, ratio, weighted_auc


@dataclass(frozen=True, slots=True)
class LabelAnswers:
    """What a model said about N pictures with K labels each.

    Attributes
    ----------
    truth, reported
        int [N, K], 1 where the label is true, or at or above its threshold.
    scores
        float [N, K], probabilities.
    groups, sources
        As in :class:`training.metrics.Answers`.
    """

    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    reported: NDArray[np.int64]
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]

    def at(self, rows: NDArray[np.intp]) -> LabelAnswers:
        """Return the answers about some pictures."""
        return LabelAnswers(
            self.truth[rows],
            self.scores[rows],
            self.reported[rows],
            self.groups[rows],
            self.sources[rows],
        )


def evaluate_labels(
    answers: LabelAnswers, classes: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Return all figures: means over the labels, for each label, and for each source.

    ``accuracy`` is the share of right yes-or-no answers over all labels. A mean over the labels
    leaves out labels that no picture, or every picture, shows; ``per_class`` has None for their
    AUC.

    Returns
    -------
    dict
        ``n``, ``metrics``, ``per_class``, ``per_source`` as in
        :func:`training.metrics.evaluate_answers`; there is no confusion matrix.
    """
    weights = draws(answers.groups, seed)
    each = _each_label(answers, weights)
    per_source = {}
    for source in sorted(set(answers.sources.tolist()) - {""}):
        part = answers.at(np.flatnonzero(answers.sources == source))
        figures = _overall(_each_label(part, draws(part.groups, seed)))
        shown = {name: interval(figures[name]) for name in ("accuracy", "f1", "auc")}
        per_source[source] = {"n": len(part.truth), **shown}
    return {
        "n": len(answers.truth),
        "metrics": {name: interval(values) for name, values in _overall(each).items()},
        "per_class": {
            name: {
                "n": int(answers.truth[:, index].sum()),
                **{figure: interval(values[:, index]) for figure, values in each.items()},
            }
            for index, name in enumerate(classes)
        },
        "per_source": per_source,
    }


def point_label_figures(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
    """Return log loss, and mean AUC, F1 and accuracy at a threshold of one half."""
    nobody = np.full(len(truth), "")
    answers = LabelAnswers(truth, scores, (scores >= 0.5).astype(np.int64), nobody, nobody)
    figures = _overall(_each_label(answers, np.ones((1, len(truth)))))
    right = np.where(truth == 1, scores, 1.0 - scores)
    log_loss = -np.log(np.maximum(right, 1e-7)).mean()
    shown = {name: float(figures[name][0]) for name in ("auc", "f1", "accuracy")}
    return {"log_loss": float(log_loss), **shown}


def _each_label(answers: LabelAnswers, weights: Values) -> dict[str, Values]:
    """Return the figures of each label, each [R, K]."""
    truth, reported = answers.truth.astype(np.float64), answers.reported.astype(np.float64)
    hits, trues, reports = (weights @ part for part in (truth * reported, truth, reported))
    total = weights.sum(axis=1, keepdims=True)
    right = weights @ (answers.truth == answers.reported).astype(np.float64)
    aucs = [
        weighted_auc(answers.scores[:, index], answers.truth[:, index] == 1, weights)
        for index in range(truth.shape[1])
    ]
    return {
        "accuracy": right / total,
        "precision": ratio(hits, reports),
        "recall": ratio(hits, trues),
        "specificity": ratio(total - trues - reports + hits, total - trues),
        "f1": ratio(2 * hits, trues + reports),
        "auc": np.stack(aucs, axis=1),
    }


def _overall(each: dict[str, Values]) -> dict[str, Values]:
    """Return means over the labels for which the AUC of all pictures is defined, each [R]."""
    judged = np.isfinite(each["auc"][0])
    if not judged.any():
        return {name: np.full(len(values), np.nan) for name, values in each.items()}
    with np.errstate(invalid="ignore"):
        means = {name: np.nanmean(values[:, judged], axis=1) for name, values in each.items()}
    return {**means, "accuracy": each["accuracy"].mean(axis=1)}
