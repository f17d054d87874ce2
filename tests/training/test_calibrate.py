"""Calibration recovers what was done to logits; thresholds are the best ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from inference.manifest import Calibration
from training.calibrate import ThresholdMetric, calibrated, choose_threshold, fit_calibration


def sample(logits: np.ndarray, seed: int = 2) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random(len(logits)) < expit(logits)).astype(np.int64)


def test_temperature_and_bias_are_recovered() -> None:
    true_logits = np.random.default_rng(1).normal(0.0, 2.0, 20000)
    logits = ((true_logits - 0.7) * 3.0)[:, np.newaxis]
    fitted = fit_calibration(logits, sample(true_logits), with_bias=True)
    assert fitted.temperature == pytest.approx(3.0, rel=0.05)
    assert fitted.bias[0] == pytest.approx(0.7, abs=0.06)


def test_temperature_of_three_classes_is_recovered() -> None:
    generator = np.random.default_rng(1)
    true_logits = generator.normal(0.0, 2.0, (20000, 3))
    chances = softmax(true_logits, axis=1)
    truth = (generator.random((20000, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    fitted = fit_calibration(true_logits * 0.5, truth, with_bias=False)
    assert fitted.temperature == pytest.approx(0.5, rel=0.05)
    assert fitted.bias == ()


def test_separated_classes_give_finite_probabilities_short_of_certainty() -> None:
    logits = np.array([[-4.0]] * 10 + [[4.0]] * 10)
    truth = np.array([0] * 10 + [1] * 10)
    probabilities = calibrated(logits, fit_calibration(logits, truth, with_bias=True))[:, 1]
    assert 0.05 < probabilities[0] < 0.15
    assert 0.85 < probabilities[-1] < 0.95


def test_calibrated_probabilities_add_up_to_one() -> None:
    logits = np.random.default_rng(3).normal(size=(5, 4))
    assert calibrated(logits, Calibration(temperature=2.0)).sum(axis=1) == pytest.approx(np.ones(5))


METRICS: tuple[ThresholdMetric, ...] = ("f1", "accuracy", "balanced_accuracy")


@pytest.mark.parametrize("metric", METRICS)
def test_threshold_lies_in_the_middle_of_the_gap(metric: ThresholdMetric) -> None:
    probabilities = np.array([0.05, 0.1, 0.2, 0.6, 0.7, 0.9])
    truth = probabilities > 0.5
    # -1.4 and 0.4 are the logits beside the gap, -0.5 is between them: probability 0.38.
    assert choose_threshold(probabilities, truth, metric) == pytest.approx(0.38, abs=0.06)


def test_threshold_of_far_apart_classes_is_the_middle_of_many_good_ones() -> None:
    probabilities = np.array([0.02, 0.021, 0.019] * 10 + [0.98, 0.979, 0.981] * 10)
    chosen = choose_threshold(probabilities, probabilities > 0.5, "accuracy")
    assert chosen == pytest.approx(0.5, abs=0.02)


def test_threshold_is_not_moved_far_by_one_picture() -> None:
    generator = np.random.default_rng(5)
    probabilities = expit(np.concatenate([generator.normal(-2, 1, 40), generator.normal(2, 1, 40)]))
    truth = np.arange(80) >= 40
    before = choose_threshold(probabilities, truth, "balanced_accuracy")
    probabilities[0] = 0.9
    after = choose_threshold(probabilities, truth, "balanced_accuracy")
    assert after == pytest.approx(before, abs=0.1)


def test_threshold_follows_the_metric() -> None:
    # 900 negatives up to 0.6, 100 positives from 0.2: sparing negatives pays for accuracy.
    probabilities = np.concatenate([np.linspace(0, 1, 900) ** 2 * 0.6, np.linspace(0.2, 0.8, 100)])
    truth = np.arange(1000) >= 900
    accuracy, balanced = (choose_threshold(probabilities, truth, metric) for metric in METRICS[1:])
    assert accuracy > balanced + 0.1


def test_threshold_is_the_best_by_brute_force() -> None:
    generator = np.random.default_rng(8)
    truth = generator.random(400) < 0.5
    probabilities = np.clip(0.35 + 0.3 * truth + generator.normal(0, 0.15, 400), 0, 1)
    chosen = choose_threshold(probabilities, truth, "accuracy")
    accuracy = [((probabilities >= t) == truth).mean() for t in np.linspace(0, 1, 201)]
    assert ((probabilities >= chosen) == truth).mean() > max(accuracy) - 0.02
