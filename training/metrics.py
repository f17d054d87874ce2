"""How good a classifier is: figures with bootstrap 95 % intervals.

Pictures of one group (patient) are drawn together, so the intervals are honest about groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

RESAMPLES = 1000
BINS = 10

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said about N labelled pictures.

    Attributes
    ----------
    truth
        int [N], position of the true class.
    scores
        float [N, K], one probability for each class.
    predicted
        int [N], position of the class that the model reports.
    groups
        str [N]; pictures with the same value are not independent.
    sources
        str [N], where each picture is from; ``""`` where it is not known.
    """

    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    predicted: NDArray[np.int64]
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]

    def at(self, rows: NDArray[np.intp]) -> Answers:
        """Return the answers about some pictures, in this order."""
        return Answers(
            self.truth[rows],
            self.scores[rows],
            self.predicted[rows],
            self.groups[rows],
            self.sources[rows],
        )


def evaluate_answers(answers: Answers, classes: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """Return all figures: overall, for each class and each source, and the confusion matrix.

    For two classes precision, recall, F1 and AUC are those of the second class; for more they are
    means over the classes (macro).

    Returns
    -------
    dict
        ``n``, ``metrics`` ({name: {value, ci95}}), ``per_class``, ``per_source``,
        ``confusion_matrix`` ({classes, rows}; a row is a true class, a column a reported one).
        A figure that can't be computed (AUC with one class only) is None.
    """
    draws = _draws(answers.groups, seed)
    figures = [all_figures(answers.at(rows), len(classes)) for rows in draws]
    point = all_figures(answers, len(classes))
    with_ci = {name: _with_interval(name, point, figures) for name in point}
    return {
        "n": len(answers.truth),
        "metrics": {name: value for name, value in with_ci.items() if "/" not in name},
        "per_class": {
            name: {
                "n": int((answers.truth == index).sum()),
                **{
                    key.split("/")[1]: value
                    for key, value in with_ci.items()
                    if key.startswith(f"{index}/")
                },
            }
            for index, name in enumerate(classes)
        },
        "per_source": _per_source(answers, len(classes), seed),
        "confusion_matrix": {
            "classes": list(classes),
            "rows": confusion(answers.truth, answers.predicted, len(classes)).tolist(),
        },
    }


def all_figures(answers: Answers, classes: int) -> Figures:
    """Return every figure by name; ``"<class>/<name>"`` for one class alone. NaN: undefined."""
    matrix = confusion(answers.truth, answers.predicted, classes).astype(np.float64)
    hits, true, reported = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, recall = _ratio(hits, reported), _ratio(hits, true)
    f1 = _ratio(2 * hits, true + reported)
    auc = np.array([one_class_auc(answers, index) for index in range(classes)])
    mean = _second if classes == 2 else _mean
    figures = {
        "accuracy": float(hits.sum() / matrix.sum()),
        "balanced_accuracy": _mean(recall),
        "precision": mean(precision),
        "recall": mean(recall),
        "f1": mean(f1),
        "auc": mean(auc),
        "calibration_error": calibration_error(answers),
    }
    if classes == 2:
        figures["specificity"] = float(recall[0])
    for index in range(classes):
        figures[f"{index}/precision"] = float(precision[index])
        figures[f"{index}/recall"] = float(recall[index])
        figures[f"{index}/f1"] = float(f1[index])
        figures[f"{index}/auc"] = float(auc[index])
    return figures


def confusion(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Return counts [true class, reported class]."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def one_class_auc(answers: Answers, index: int) -> float:
    """Return the area under the ROC curve of one class against the rest; NaN if one is absent."""
    truth = answers.truth == index
    if truth.all() or not truth.any():
        return float("nan")
    return float(roc_auc_score(truth, answers.scores[:, index]))


def calibration_error(answers: Answers) -> float:
    """Return the expected calibration error in ten equal bins of probability.

    Of the second class's probability for two classes, of the highest one for more.
    """
    if answers.scores.shape[1] == 2:
        stated, right = answers.scores[:, 1], answers.truth == 1
    else:
        stated, right = answers.scores.max(axis=1), answers.scores.argmax(axis=1) == answers.truth
    bins = np.minimum((stated * BINS).astype(np.intp), BINS - 1)
    weight = np.bincount(bins, minlength=BINS)
    gap = np.bincount(bins, stated, BINS) - np.bincount(bins, right.astype(np.float64), BINS)
    return float(np.abs(gap).sum() / weight.sum())


def _draws(groups: NDArray[np.str_], seed: int) -> list[NDArray[np.intp]]:
    """Return bootstrap draws of whole groups, each as row numbers."""
    generator = np.random.default_rng(seed)
    _, member_of = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(member_of, kind="stable"), np.cumsum(np.bincount(member_of))[:-1])
    count = len(rows_of)
    return [
        np.concatenate([rows_of[index] for index in generator.integers(0, count, count)])
        for _ in range(RESAMPLES)
    ]


def _with_interval(name: str, point: Figures, draws: Sequence[Figures]) -> dict[str, Any]:
    values = np.array([draw[name] for draw in draws])
    values = values[np.isfinite(values)]
    if not np.isfinite(point[name]) or not values.size:
        return {"value": None, "ci95": None}
    low, high = np.percentile(values, (2.5, 97.5))
    return {"value": round(point[name], 4), "ci95": [round(float(low), 4), round(float(high), 4)]}


def _per_source(answers: Answers, classes: int, seed: int) -> dict[str, Mapping[str, Any]]:
    result: dict[str, Mapping[str, Any]] = {}
    for source in sorted(set(answers.sources.tolist()) - {""}):
        part = answers.at(np.flatnonzero(answers.sources == source))
        draws = [all_figures(part.at(rows), classes) for rows in _draws(part.groups, seed)]
        point = all_figures(part, classes)
        names = ("accuracy", "f1", "auc")
        result[source] = {
            "n": len(part.truth),
            **{name: _with_interval(name, point, draws) for name in names},
        }
    return result


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; 0 where there is nothing to divide by, as scikit-learn's ``zero_division=0``."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _second(values: NDArray[np.float64]) -> float:
    return float(values[1])


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())
