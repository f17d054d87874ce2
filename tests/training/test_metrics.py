"""Figures against scikit-learn, and intervals against what they must be."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from training.metrics import Answers, evaluate_answers, point_figures


def answers(classes: int, count: int = 200, seed: int = 1) -> Answers:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, count)
    scores = generator.random((count, classes)).round(2)  # rounded: ties happen
    scores[np.arange(count), truth] += 0.4
    scores /= scores.sum(axis=1, keepdims=True)
    names = np.array([f"g{n}" for n in range(count)])
    sources = np.where(np.arange(count) % 2 == 0, "even", "odd")
    return Answers(truth, scores, scores.argmax(axis=1), names, sources)


def test_binary_figures_equal_scikit_learn() -> None:
    given = answers(2)
    truth, predicted = given.truth, given.predicted
    figures = point_figures(given, 2)
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert figures["precision"] == pytest.approx(precision_score(truth, predicted))
    assert figures["recall"] == pytest.approx(recall_score(truth, predicted))
    assert figures["specificity"] == pytest.approx(recall_score(truth, predicted, pos_label=0))
    assert figures["f1"] == pytest.approx(f1_score(truth, predicted))
    assert figures["auc"] == pytest.approx(roc_auc_score(truth, given.scores[:, 1]))


def test_quadratic_kappa_of_grades_equals_scikit_learn_and_has_an_interval() -> None:
    given = answers(5)
    expected = cohen_kappa_score(given.truth, given.predicted, weights="quadratic")
    assert point_figures(given, 5, ordinal=True)["quadratic_kappa"] == pytest.approx(expected)
    figure = evaluate_answers(given, list("01234"), ordinal=True)["metrics"]["quadratic_kappa"]
    low, high = figure["ci95"]
    assert low < figure["value"] < high
    assert "quadratic_kappa" not in evaluate_answers(given, list("01234"))["metrics"]


def test_quadratic_kappa_without_disagreement_to_expect_is_undefined() -> None:
    given = answers(3)
    ones = np.ones_like(given.truth)
    same = Answers(ones, given.scores, ones, given.groups, given.sources)
    assert np.isnan(point_figures(same, 3, ordinal=True)["quadratic_kappa"])


def test_figures_of_four_classes_equal_scikit_learn_macro_means() -> None:
    given = answers(4)
    truth, predicted = given.truth, given.predicted
    figures = point_figures(given, 4)
    result = evaluate_answers(given, list("abcd"))
    per_class = result["per_class"]
    for name, function in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
    ):
        assert figures[name] == pytest.approx(function(truth, predicted, average="macro"))
        each = function(truth, predicted, average=None)
        found = [per_class[letter][name]["value"] for letter in "abcd"]
        assert found == pytest.approx(each, abs=1e-4)
    auc = roc_auc_score(truth, given.scores, multi_class="ovr", average="macro")
    assert figures["auc"] == pytest.approx(auc)
    assert result["confusion_matrix"]["rows"] == confusion_matrix(truth, predicted).tolist()


def test_calibration_error_of_known_bins() -> None:
    stated = np.array([0.85] * 10 + [0.25] * 10)
    truth = np.array([1] * 6 + [0] * 4 + [1] * 3 + [0] * 7)
    scores = np.stack([1 - stated, stated], axis=1)
    nobody = np.full(20, "")
    figures = point_figures(Answers(truth, scores, truth, nobody, nobody), 2)
    assert figures["calibration_error"] == pytest.approx((abs(0.85 - 0.6) + abs(0.25 - 0.3)) / 2)


def test_interval_contains_the_figure_and_narrows_with_more_pictures() -> None:
    widths = []
    for count in (50, 800):
        accuracy = evaluate_answers(answers(2, count), ["no", "yes"])["metrics"]["accuracy"]
        low, high = accuracy["ci95"]
        assert low <= accuracy["value"] <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_interval_is_wider_when_pictures_belong_together() -> None:
    alone = answers(2, 200)
    groups = np.array([f"patient{n // 20}" for n in range(200)])
    right = np.repeat(np.arange(10) % 2 == 0, 20)  # whole patients are right or wrong
    predicted = np.where(right, alone.truth, 1 - alone.truth)
    widths = [
        np.ptp(
            evaluate_answers(
                Answers(alone.truth, alone.scores, predicted, given, alone.sources), ["no", "yes"]
            )["metrics"]["accuracy"]["ci95"]
        )
        for given in (alone.groups, groups)
    ]
    assert widths[1] > 2 * widths[0]


def test_evaluation_is_the_same_each_time() -> None:
    assert evaluate_answers(answers(3), list("abc")) == evaluate_answers(answers(3), list("abc"))


def test_sources_are_reported_apart_and_one_class_alone_has_no_auc() -> None:
    given = answers(2)
    sources = np.where(given.truth == 1, "only-positive", "only-negative")
    result = evaluate_answers(
        Answers(given.truth, given.scores, given.predicted, given.groups, sources), ["no", "yes"]
    )
    source = result["per_source"]["only-positive"]
    assert source["n"] == int((given.truth == 1).sum())
    assert source["auc"] == {"value": None, "ci95": None}
    recall = recall_score(given.truth, given.predicted)
    assert source["accuracy"]["value"] == pytest.approx(recall, abs=1e-4)
