from __future__ import annotations

import numpy as np
import pytest

from inference.probabilities import calibrate, explained_output, findings_of
from tests.inference.factories import manifest


def test_sigmoid_after_temperature_and_bias() -> None:
    # the toy manifest: temperature 2, bias 0 and 0.5
    probabilities = calibrate(np.array([2.0, -1.0], np.float32), manifest())
    np.testing.assert_allclose(probabilities, [1 / (1 + np.exp(-1)), 0.5])


def test_softmax_after_temperature() -> None:
    model = manifest(activation="softmax", calibration={"temperature": 0.5})
    probabilities = calibrate(np.array([[0.0, np.log(3) / 2]], np.float32), model)
    np.testing.assert_allclose(probabilities, [[0.25, 0.75]], atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_extreme_logits_stay_probabilities(activation: str) -> None:
    model = manifest(activation=activation)
    probabilities = calibrate(np.array([1e30, -1e30], np.float32), model)
    np.testing.assert_array_equal(probabilities, [1, 0])


def test_threshold_itself_is_positive() -> None:
    findings = findings_of(np.array([0.5, 0.4999]), manifest())
    assert [finding.is_positive for finding in findings] == [True, False]
    assert findings[1].concept.value == "60046008"


@pytest.mark.parametrize(
    ("probabilities", "label"),
    [([0.6, 0.7], "Effusion"), ([0.6, 0.4], "Pneumonia"), ([0.1, 0.4], "Effusion")],
)
def test_most_probable_finding_is_explained(probabilities: list[float], label: str) -> None:
    findings = findings_of(np.array(probabilities), manifest())
    assert explained_output(findings, manifest()).label == label


def test_positive_finding_is_explained_before_a_more_probable_negative_one() -> None:
    outputs = [output.model_dump() for output in manifest().outputs]
    outputs[1]["threshold"] = 0.9
    model = manifest(outputs=outputs)
    findings = findings_of(np.array([0.55, 0.8]), model)
    assert explained_output(findings, model).label == "Pneumonia"
