"""How good boxes are: overlap, average precision and counts, with bootstrap 95 % intervals.

Pictures of one group are drawn together, as in :mod:`training.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.boxes import Boxes, iou
from training.metrics import Values, draws, interval

RIGHT_IOU = 0.5
"""A box is right if it overlaps a true one, not yet taken, by so much."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Where average precision reads the curve, as COCO does."""


@dataclass(frozen=True, slots=True)
class BoxAnswer:
    """What a model said about one class on one picture, however low the score.

    Attributes
    ----------
    truth
        [M, 4].
    boxes, scores
        [N, 4] and [N], best first.
    is_reported
        bool [N]; reaches the operating threshold.
    group, source
        As in ``labels.csv``.
    """

    truth: Boxes
    boxes: Boxes
    scores: NDArray[np.float64]
    is_reported: NDArray[np.bool_]
    group: str
    source: str


def evaluate_boxes(answers: Mapping[str, Sequence[BoxAnswer]], *, seed: int = 0) -> dict[str, Any]:
    """Return all figures, overall (means over the classes), by class and by source.

    ``mean_iou``: of each true box the overlap with the best reported one, 0 if there is none.
    ``ap50``: area under precision over recall, at all scores. ``precision``, ``recall`` and ``f1``
    count reported boxes. ``largest_iou``: as ``mean_iou``, of the largest true box of each picture
    alone. ``specificity``: share of the pictures with nothing to find on which no box is reported;
    None where all pictures show something.

    Parameters
    ----------
    answers
        By class, of the same pictures in the same order.
    """
    first = next(iter(answers.values()))
    sources = sorted({answer.source for answer in first} - {""})
    per_source = {}
    for source in sources:
        rows = [row for row, answer in enumerate(first) if answer.source == source]
        part = {name: [items[row] for row in rows] for name, items in answers.items()}
        per_source[source] = {"n": len(rows), **_overall(part, seed)}
    return {
        "n": len(first),
        "metrics": _overall(answers, seed),
        "per_class": {
            name: {"n": sum(len(answer.truth) for answer in items), **_overall({name: items}, seed)}
            for name, items in answers.items()
        },
        "per_source": per_source,
    }


def box_figures(answers: Sequence[BoxAnswer]) -> dict[str, float]:
    """Return the figures of one class without intervals. NaN: undefined."""
    return {
        name: float(values[0])
        for name, values in _figures(answers, np.ones((1, len(answers)))).items()
    }


def right_boxes(answer: BoxAnswer) -> NDArray[np.bool_]:
    """Tell which of the boxes, best first, are right; each true box can be found once."""
    overlap = iou(answer.boxes, answer.truth)
    right = np.zeros(len(answer.boxes), np.bool_)
    for row in range(len(answer.boxes)):
        if not overlap.shape[1]:
            break
        best = int(overlap[row].argmax())
        if overlap[row, best] >= RIGHT_IOU:
            right[row] = True
            overlap[:, best] = 0.0
    return right


def best_overlaps(answer: BoxAnswer) -> NDArray[np.float64]:
    """Return the overlap of each true box with the best reported one, [M]."""
    reported = answer.boxes[answer.is_reported]
    if not len(reported):
        return np.zeros(len(answer.truth))
    return np.asarray(iou(answer.truth, reported).max(axis=1))


def _largest_overlap(answer: BoxAnswer) -> float:
    """Return the overlap of the largest true box with the best reported one; 0 without boxes."""
    if not len(answer.truth):
        return 0.0
    sizes = (answer.truth[:, 2:] - answer.truth[:, :2]).prod(axis=1)
    return float(best_overlaps(answer)[sizes.argmax()])


def _overall(answers: Mapping[str, Sequence[BoxAnswer]], seed: int) -> dict[str, Any]:
    """Return the means over the classes with their intervals."""
    groups = np.array([answer.group for answer in next(iter(answers.values()))])
    weights = draws(groups, seed)
    each = [_figures(items, weights) for items in answers.values()]
    return {
        name: interval(np.mean([figures[name] for figures in each], axis=0)) for name in each[0]
    }


def _figures(answers: Sequence[BoxAnswer], weights: Values) -> dict[str, Values]:
    """Return the figures of one class, each [R]; `weights` is [R, pictures]."""
    right = [right_boxes(answer) for answer in answers]
    reported = [right_boxes(_only_reported(answer)) for answer in answers]
    true = weights @ np.array([len(answer.truth) for answer in answers], np.float64)
    found = weights @ np.array([flags.sum() for flags in reported], np.float64)
    given = weights @ np.array([len(flags) for flags in reported], np.float64)
    overlap = weights @ np.array([best_overlaps(answer).sum() for answer in answers])
    largest = weights @ np.array([_largest_overlap(answer) for answer in answers])
    empty = np.array([not len(answer.truth) for answer in answers], np.float64)
    quiet = empty * np.array([not answer.is_reported.any() for answer in answers])
    return {
        "mean_iou": _share(overlap, true),
        "largest_iou": _share(largest, weights @ (1.0 - empty)),
        "ap50": _average_precision(answers, right, weights, true),
        "precision": np.divide(found, given, out=np.zeros_like(found), where=given > 0),
        "recall": _share(found, true),
        "f1": _share(2 * found, given + true),
        "specificity": _share(weights @ quiet, weights @ empty),
    }


def _only_reported(answer: BoxAnswer) -> BoxAnswer:
    shown = answer.is_reported
    return BoxAnswer(
        answer.truth,
        answer.boxes[shown],
        answer.scores[shown],
        shown[shown],
        answer.group,
        answer.source,
    )


def _average_precision(
    answers: Sequence[BoxAnswer],
    right: Sequence[NDArray[np.bool_]],
    weights: Values,
    true: Values,
) -> Values:
    scores = np.concatenate([answer.scores for answer in answers])
    picture = np.repeat(np.arange(len(answers)), [len(answer.scores) for answer in answers])
    order = np.argsort(-scores, kind="stable")
    counted = weights[:, picture[order]]
    hits = (counted * np.concatenate(right)[order]).cumsum(axis=1)
    seen = counted.cumsum(axis=1)
    precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = _share(hits, true[:, np.newaxis])
    values = np.full(len(weights), np.nan)
    for row in np.flatnonzero(true > 0):
        places = np.searchsorted(recall[row], RECALLS, side="left")
        reached = places < envelope.shape[1]
        values[row] = envelope[row, places[reached]].sum() / len(RECALLS)
    return values


def _share(above: Values, below: Values) -> Values:
    """Divide; NaN where there is nothing to divide by."""
    shape = np.broadcast_shapes(above.shape, below.shape)
    return np.divide(
        above, below, out=np.full(shape, np.nan), where=np.broadcast_to(below > 0, shape)
    )
