"""How good a classifier is: figures with bootstrap 95 % intervals.

Pictures of one group (patient) are drawn together, so the intervals are honest about groups. A draw
is a row of weights (how often each picture was drawn), and all draws are computed at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
BINS = 10

Values = NDArray[np.float64]


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


def evaluate_answers(
    answers: Answers, classes: Sequence[str], *, ordinal: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Return all figures: overall, for each class and each source, and the confusion matrix.

    For two classes precision, recall, F1 and AUC are those of the second class; for more they are
    means over the classes (macro). `ordinal` (the classes are grades) adds ``quadratic_kappa``.

    Returns
    -------
    dict
        ``n``, ``metrics`` ({name: {value, ci95}}), ``per_class``, ``per_source``,
        ``confusion_matrix`` ({classes, rows}; a row is a true class, a column a reported one).
        A figure that can't be computed (AUC with one class only) is None.
    """
    overall, by_class = _with_intervals(answers, len(classes), seed, ordinal=ordinal)
    per_source: dict[str, Mapping[str, Any]] = {}
    for source in sorted(set(answers.sources.tolist()) - {""}):
        part = answers.at(np.flatnonzero(answers.sources == source))
        figures, _ = _with_intervals(part, len(classes), seed)
        shown = {name: figures[name] for name in ("accuracy", "f1", "auc")}
        per_source[source] = {"n": len(part.truth), **shown}
    return {
        "n": len(answers.truth),
        "metrics": overall,
        "per_class": {
            name: {"n": int((answers.truth == index).sum()), **by_class[index]}
            for index, name in enumerate(classes)
        },
        "per_source": per_source,
        "confusion_matrix": {
            "classes": list(classes),
            "rows": confusion(answers, len(classes)).tolist(),
        },
    }


def point_figures(answers: Answers, classes: int, *, ordinal: bool = False) -> dict[str, float]:
    """Return every overall figure, without intervals. NaN: undefined."""
    once = np.ones((1, len(answers.truth)))
    figures = _overall(answers, classes, once, ordinal=ordinal)
    return {name: float(values[0]) for name, values in figures.items()}


def confusion(answers: Answers, classes: int) -> NDArray[np.int64]:
    """Return counts [true class, reported class]."""
    cells = answers.truth * classes + answers.predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def one_class_auc(answers: Answers, index: int) -> float:
    """Return the area under the ROC curve of one class against the rest; NaN if one is absent."""
    return float(_auc(answers, index, np.ones((1, len(answers.truth))))[0])


def _with_intervals(
    answers: Answers, classes: int, seed: int, *, ordinal: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the overall figures and those of each class, each with its interval."""
    weights = draws(answers.groups, seed)
    overall = {
        name: interval(values)
        for name, values in _overall(answers, classes, weights, ordinal=ordinal).items()
    }
    figures = _each_class(answers, classes, weights)
    by_class = [
        {name: interval(values[:, index]) for name, values in figures.items()}
        for index in range(classes)
    ]
    return overall, by_class


def draws(groups: NDArray[np.str_], seed: int) -> Values:
    """Return how often each picture counts, [1 + RESAMPLES, N]; in row 0 each counts once."""
    _, member_of = np.unique(groups, return_inverse=True)
    count = int(member_of.max()) + 1
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)
    once = np.ones((1, len(groups)))
    return np.concatenate([once, drawn[:, member_of].astype(np.float64)])


def interval(values: Values) -> dict[str, Any]:
    """Return the figure (row 0) with the percentiles of the draws in which it is defined."""
    defined = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not defined.size:
        return {"value": None, "ci95": None}
    low, high = np.percentile(defined, (2.5, 97.5))
    return {
        "value": round(float(values[0]), 4),
        "ci95": [round(float(low), 4), round(float(high), 4)],
    }


def _overall(
    answers: Answers, classes: int, weights: Values, *, ordinal: bool
) -> dict[str, Values]:
    """Return the figures over all classes, each [R]."""
    each = _each_class(answers, classes, weights)
    right = (answers.truth == answers.predicted).astype(np.float64)
    # Of two classes the second is the finding; of more, all count alike.
    chosen = {
        name: values[:, 1] if classes == 2 else values.mean(axis=1) for name, values in each.items()
    }
    figures = {
        "accuracy": weights @ right / weights.sum(axis=1),
        "balanced_accuracy": each["recall"].mean(axis=1),
        **chosen,
        "calibration_error": _calibration_error(answers, weights),
    }
    if classes == 2:
        figures["specificity"] = each["recall"][:, 0]
    if ordinal:
        figures["quadratic_kappa"] = _quadratic_kappa(answers, classes, weights)
    return figures


def _each_class(answers: Answers, classes: int, weights: Values) -> dict[str, Values]:
    """Return the figures of each class, each [R, K]."""
    true = (answers.truth[:, np.newaxis] == np.arange(classes)).astype(np.float64)
    reported = (answers.predicted[:, np.newaxis] == np.arange(classes)).astype(np.float64)
    hits = weights @ (true * reported)
    trues, reports = weights @ true, weights @ reported
    return {
        "precision": ratio(hits, reports),
        "recall": ratio(hits, trues),
        "f1": ratio(2 * hits, trues + reports),
        "auc": np.stack([_auc(answers, index, weights) for index in range(classes)], axis=1),
    }


def _auc(answers: Answers, index: int, weights: Values) -> Values:
    """Return the area of one class against the rest, [R]."""
    return weighted_auc(answers.scores[:, index], answers.truth == index, weights)


def weighted_auc(scores: Values, truth: NDArray[np.bool_], weights: Values) -> Values:
    """Return the Mann-Whitney statistic for each row of weights, [R]; ties count half.

    Parameters
    ----------
    scores, truth
        [N].
    weights
        [R, N]; how often each picture counts.
    """
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    is_new = np.concatenate([[True], sorted_scores[1:] != sorted_scores[:-1]])
    starts = np.flatnonzero(is_new)
    truth = truth[order]
    positive = np.add.reduceat(weights[:, order] * truth, starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth, starts, axis=1)
    below = negative.cumsum(axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * below).sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def _quadratic_kappa(answers: Answers, classes: int, weights: Values) -> Values:
    """Return Cohen's kappa with quadratic weights (agreement of grades beyond chance), [R].

    NaN where all pictures of a draw have one grade and it was reported for all.
    """
    grades = np.arange(classes)
    costs = ((grades[:, np.newaxis] - grades) ** 2).astype(np.float64)
    seen = weights @ costs[answers.truth, answers.predicted]
    trues = weights @ (answers.truth[:, np.newaxis] == grades).astype(np.float64)
    reports = weights @ (answers.predicted[:, np.newaxis] == grades).astype(np.float64)
    by_chance = ((trues @ costs) * reports).sum(axis=1) / weights.sum(axis=1)
    ratio = np.divide(seen, by_chance, out=np.full(len(seen), np.nan), where=by_chance > 0)
    return np.asarray(1.0 - ratio)


def _calibration_error(answers: Answers, weights: Values) -> Values:
    """Return the expected calibration error in ten equal bins of probability, [R].

    Of the second class's probability for two classes, of the highest one for more.
    """
    if answers.scores.shape[1] == 2:
        stated, right = answers.scores[:, 1], answers.truth == 1
    else:
        stated, right = answers.scores.max(axis=1), answers.scores.argmax(axis=1) == answers.truth
    bins = np.minimum((stated * BINS).astype(np.intp), BINS - 1)
    gaps = (stated - right)[:, np.newaxis] * (bins[:, np.newaxis] == np.arange(BINS))
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))


def ratio(above: Values, below: Values) -> Values:
    """Divide; 0 where there is nothing to divide by, as scikit-learn's ``zero_division=0``."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
