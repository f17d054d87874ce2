"""From logits to honest probabilities, and from probabilities to an operating threshold."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, ndtr

from inference.manifest import Calibration

THRESHOLDS = np.arange(0.02, 0.981, 0.005)
PLATEAU = 0.0005
"""Thresholds whose figure is this close to the best one count as equally good."""

ThresholdMetric = Literal["f1", "f2", "accuracy", "balanced_accuracy"]


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


def fit_label_calibration(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> Calibration:
    """Fit one temperature and a bias for each label by maximum likelihood.

    The biases undo the weights that rare labels had in training. They are drawn to 0 as if ten more
    pictures had said so, because few pictures show a rare label.

    Parameters
    ----------
    logits, truth
        [N, K]; truth is 0 or 1.
    """
    count, labels = logits.shape

    def loss(parameters: NDArray[np.float64]) -> float:
        z = logits * np.exp(-parameters[0]) + parameters[1:]
        likelihood = np.logaddexp(0.0, z) - truth * z
        return float(likelihood.sum() / count + 10.0 / count * (parameters[1:] ** 2).mean())

    bounds = [(-np.log(50), np.log(50)), *[(-6.0, 6.0)] * labels]
    best = minimize(loss, np.zeros(1 + labels), method="L-BFGS-B", bounds=bounds).x
    bias = tuple(round(float(value), 4) for value in best[1:])
    return Calibration(temperature=round(float(np.exp(best[0])), 4), bias=bias)


def label_probabilities(
    logits: NDArray[np.float64], calibration: Calibration
) -> NDArray[np.float64]:
    """Return a probability for each label, [N, K]."""
    return np.asarray(expit(logits / calibration.temperature + np.array(calibration.bias or 0.0)))


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
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], metric: ThresholdMetric
) -> float:
    """Return the threshold that would be best if each logit were a little uncertain.

    Each picture counts as a normal distribution round its logit (Silverman's width of the spread
    within the classes), so that single pictures of a small set don't decide. Of a range of equally
    good thresholds it is the middle.

    Parameters
    ----------
    probabilities, truth
        [N], of one class against the rest.
    """
    logits = logit(np.clip(probabilities, 1e-6, 1.0 - 1e-6))
    spread = np.sqrt((logits[truth].var() + logits[~truth].var()) / 2.0)
    width = max(0.9 * float(spread) * len(logits) ** -0.2, 1e-3)
    reported = ndtr((logits[:, np.newaxis] - logit(THRESHOLDS)) / width)
    figures = _figures(metric, reported[truth].sum(axis=0), reported[~truth].sum(axis=0), truth)
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
    true_positive: NDArray[np.float64],
    false_positive: NDArray[np.float64],
    truth: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the metric at each threshold from expected counts."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if metric == "accuracy":
        return np.asarray((true_positive + negatives - false_positive) / len(truth))
    if metric == "balanced_accuracy":
        return np.asarray((true_positive / positives + 1.0 - false_positive / negatives) / 2.0)
    weight = 4.0 if metric == "f2" else 1.0  # of recall, against precision
    reported = true_positive + false_positive
    return np.asarray((1.0 + weight) * true_positive / (reported + weight * positives))
