"""From logits to honest probabilities, and from probabilities to an operating threshold."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from inference.manifest import Calibration

THRESHOLDS = np.arange(0.02, 0.981, 0.005)
PLATEAU = 0.002
"""Thresholds whose mean figure is this close to the best one count as equally good."""

ThresholdMetric = Literal["f1", "accuracy", "balanced_accuracy"]


def fit_calibration(
    logits: NDArray[np.float64], truth: NDArray[np.int64], *, with_bias: bool
) -> Calibration:
    """Fit ``logit / temperature + bias`` by maximum likelihood.

    Parameters
    ----------
    logits
        [N, 1] for two classes (of the second), [N, K] for more.
    truth
        [N], position of the true class.
    with_bias
        Fit a bias too (two classes only): Platt scaling with Platt's targets, which are drawn in
        from 0 and 1 by what N pictures can't prove.
    """
    binary = logits.shape[1] == 1
    positive, total = int((truth == 1).sum()), len(truth)
    high, low = (positive + 1) / (positive + 2), 1 / (total - positive + 2)
    targets = np.where(truth == 1, high, low)

    def loss(parameters: NDArray[np.float64]) -> float:
        scaled = logits * np.exp(-parameters[0]) + parameters[1]
        if binary:
            z = scaled[:, 0]
            return float(np.mean(np.logaddexp(0.0, z) - targets * z))
        return float(-np.mean(log_softmax(scaled, axis=1)[np.arange(total), truth]))

    bias_bounds = (-10.0, 10.0) if with_bias else (0.0, 0.0)
    # Between 1/50 and 50: with perfectly separated classes the best temperature is zero.
    bounds = [(-np.log(50), np.log(50)), bias_bounds]
    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=bounds).x
    bias = (round(float(best[1]), 4),) if with_bias else ()
    return Calibration(temperature=round(float(np.exp(best[0])), 4), bias=bias)


def calibrated(logits: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Return one probability for each class, [N, K] (K = 2 for [N, 1] logits)."""
    scaled = logits / calibration.temperature
    if calibration.bias:
        scaled = scaled + np.asarray(calibration.bias)
    if logits.shape[1] == 1:
        positive = expit(scaled[:, 0])
        return np.stack([1.0 - positive, positive], axis=1)
    return np.exp(log_softmax(scaled, axis=1))


def choose_threshold(
    probabilities: NDArray[np.float64],
    truth: NDArray[np.bool_],
    *,
    metric: ThresholdMetric,
    resamples: int,
    seed: int,
) -> float:
    """Return the threshold in the middle of those that are best on average over resamples.

    Parameters
    ----------
    probabilities, truth
        [N], of one class against the rest.
    """
    generator = np.random.default_rng(seed)
    reported = probabilities[:, np.newaxis] >= THRESHOLDS
    positive = truth[:, np.newaxis]
    # Counts of each resample are products of draw counts with 0/1 outcomes.
    draws = generator.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples)
    true_positive = draws @ (reported & positive)
    false_positive = draws @ (reported & ~positive)
    positives = (draws @ truth.astype(np.int64))[:, np.newaxis]
    negatives = len(truth) - positives
    figures = _figures(metric, true_positive, false_positive, positives, negatives).mean(axis=0)
    best = int(figures.argmax())
    good = figures >= figures[best] - PLATEAU
    first, last = best, best
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return round(float(THRESHOLDS[first] + THRESHOLDS[last]) / 2, 3)


def _figures(
    metric: ThresholdMetric,
    true_positive: NDArray[np.int64],
    false_positive: NDArray[np.int64],
    positives: NDArray[np.int64],
    negatives: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the metric for each [resample, threshold]."""
    if metric == "accuracy":
        right = true_positive + negatives - false_positive
        return np.asarray(right / (positives + negatives))
    if metric == "balanced_accuracy":
        recall = true_positive / np.maximum(positives, 1)
        return np.asarray((recall + 1 - false_positive / np.maximum(negatives, 1)) / 2)
    return np.asarray(2 * true_positive / np.maximum(true_positive + false_positive + positives, 1))
