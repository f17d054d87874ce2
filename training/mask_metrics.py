"""How good masks are: Dice, IoU and volume error with bootstrap 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics import draws, interval

NAMES = ("dice", "iou", "volume_error")


@dataclass(frozen=True, slots=True)
class MaskAnswer:
    """What a model outlined on one sample, in voxels (pixels) by class, each [K].

    Attributes
    ----------
    common
        Both true and reported.
    true
        True ones.
    reported
        Reported ones.
    """

    common: NDArray[np.int64]
    true: NDArray[np.int64]
    reported: NDArray[np.int64]
    group: str
    source: str


def count_voxels(
    truth: NDArray[np.bool_], reported: NDArray[np.bool_], fov: NDArray[np.bool_] | None
) -> tuple[int, int, int]:
    """Return how many voxels are common, true and reported, of those that are judged."""
    if fov is not None:
        truth, reported = truth & fov, reported & fov
    common, true, given = (int(part.sum()) for part in (truth & reported, truth, reported))
    return common, true, given


def figures_of(answers: Sequence[MaskAnswer]) -> dict[str, NDArray[np.float64]]:
    """Return each figure of each sample and class, [N, K].

    Dice and IoU are 1 where a structure is neither there nor reported. The volume error is
    |reported - true| / true volume; NaN where there is no true one.
    """
    common, true, reported = (
        np.array([getattr(answer, name) for answer in answers], np.float64)
        for name in ("common", "true", "reported")
    )
    return {
        "dice": _ratio(2 * common, true + reported, 1.0),
        "iou": _ratio(common, true + reported - common, 1.0),
        "volume_error": _ratio(np.abs(reported - true), true, np.nan),
    }


def evaluate_masks(
    answers: Sequence[MaskAnswer], classes: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Return all figures: means over samples and classes, for each class and each source.

    Returns
    -------
    dict
        ``n``, ``metrics`` ({name: {value, ci95}}), ``per_class``, ``per_source``. Samples of one
        group are drawn together.
    """
    figures = figures_of(answers)
    groups = np.array([answer.group for answer in answers])
    weights = draws(groups, seed)
    per_source: dict[str, Mapping[str, Any]] = {}
    for source in sorted({answer.source for answer in answers} - {""}):
        rows = np.flatnonzero([answer.source == source for answer in answers])
        part = draws(groups[rows], seed)
        shown = {name: _figure(figures[name][rows], part) for name in ("dice", "iou")}
        per_source[source] = {"n": len(rows), **shown}
    return {
        "n": len(answers),
        "metrics": {name: _figure(figures[name], weights) for name in NAMES},
        "per_class": {
            label: {
                "n": sum(int(answer.true[number] > 0) for answer in answers),
                **{name: _figure(figures[name][:, [number]], weights) for name in NAMES},
            }
            for number, label in enumerate(classes)
        },
        "per_source": per_source,
    }


def _figure(values: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, Any]:
    """Return the mean of [N, K] over classes, then samples, with its interval over the draws."""
    with np.errstate(invalid="ignore"):
        counted = np.isfinite(values)
        sums = weights @ np.where(counted, values, 0.0)
        means = sums / (weights @ counted.astype(np.float64))
    return interval(means.mean(axis=1))


def _ratio(
    above: NDArray[np.float64], below: NDArray[np.float64], otherwise: float
) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(above.shape, otherwise), where=below > 0)
