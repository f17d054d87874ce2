"""ONNX files are served by OpenVINO as they are; what ends in probabilities becomes logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.backends import open_backend
from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.registry import load_model
from tests.training.conftest import Cli
from tests.training.imports import draft_values, imported, onnx_bytes
from training.importing.errors import DraftError, ImportingError, WeightsDontFitError
from training.verify import verify_folder

WEIGHT = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], np.float32)
BIAS = np.array([0.1, -0.2], np.float32)
NETWORK = {"name": "onnx", "channels": 2}


def write_onnx(folder: Path, **changes: Any) -> Path:
    path = folder / "their.onnx"
    path.write_bytes(onnx_bytes(WEIGHT, BIAS, **changes))
    return path


@pytest.mark.parametrize(
    ("last", "activation"), [(None, "sigmoid"), ("Sigmoid", "sigmoid"), ("Softmax", "softmax")]
)
def test_graph_is_served_as_logits(tmp_path: Path, last: str | None, activation: str) -> None:
    values = draft_values(network=NETWORK, activation=activation)
    folder = imported(tmp_path, write_onnx(tmp_path, last=last), values)
    assert (folder / "model.onnx").read_bytes() == (tmp_path / "their.onnx").read_bytes()
    assert [check for check in verify_folder(folder) if not check.is_passed] == []
    package = load_model(folder)
    batch = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    (logits,) = OpenVinoBackend(package, InferenceConfig()).run(batch)
    expected = batch.mean(axis=(2, 3)) @ WEIGHT.T + BIAS
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_graph_runs_in_openvino_whatever_else_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load_model(imported(tmp_path, write_onnx(tmp_path), draft_values(network=NETWORK)))
    monkeypatch.setattr("inference.backends.choose_backend", lambda config: "torch")
    assert open_backend(package, InferenceConfig(backend="auto")).name == "openvino"
    with pytest.raises(BackendError, match="runs in OpenVINO only; set inference"):
        TorchBackend(package, InferenceConfig(backend="torch"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": (2, 3, 64, 64)}, "takes [2,3,64,64], not [1, 3, 64, 64]"),
        ({"image": ("n", 3, 32, 64)}, "not [1, 3, 64, 64]"),
        ({"outputs": 2}, "has 1 inputs and 2 outputs; it needs one of each"),
        ({"last": "Softmax", "axis": 0}, "ends in a softmax along another axis"),
        ({"is_external": True}, "keeps tensors in other files; export it as one file"),
    ],
)
def test_graph_that_doesnt_fit_says_why(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    values = draft_values(network=NETWORK, activation="softmax")
    with pytest.raises(WeightsDontFitError) as caught:
        imported(tmp_path, write_onnx(tmp_path, **changes), values)
    assert str(caught.value).startswith("their.onnx ")
    assert sentence in str(caught.value)
    assert not any((tmp_path / "models").iterdir())


def test_another_number_of_outputs_is_told(tmp_path: Path) -> None:
    values = draft_values(network=NETWORK | {"channels": 3})
    with pytest.raises(WeightsDontFitError, match=r"gives \[1,2\], not \[1, 3\]"):
        imported(tmp_path, write_onnx(tmp_path), values)


def test_another_activation_than_the_graphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DraftError, match=r"activation is sigmoid, but .* ends in a softmax"):
        imported(tmp_path, write_onnx(tmp_path, last="Softmax"), draft_values(network=NETWORK))


def test_probabilities_that_cant_be_undone_are_refused(tmp_path: Path) -> None:
    source = write_onnx(tmp_path, last="HardSigmoid")
    with pytest.raises(WeightsDontFitError, match="gives values from 0 to 1 whatever it sees"):
        imported(tmp_path, source, draft_values(network=NETWORK))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x0b\x0c", b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "their.onnx"
    source.write_bytes(content)
    with pytest.raises(WeightsDontFitError, match="is not an ONNX file that OpenVINO can read"):
        imported(tmp_path, source, draft_values(network=NETWORK))


def test_missing_file_and_other_network_are_told(tmp_path: Path) -> None:
    with pytest.raises(ImportingError, match="There is no file"):
        imported(tmp_path, tmp_path / "their.onnx", draft_values(network=NETWORK))
    with pytest.raises(DraftError, match=r"an .onnx file needs network: {name: onnx"):
        imported(tmp_path, write_onnx(tmp_path), draft_values())


def test_changed_graph_is_found_out(cli: Cli, tmp_path: Path) -> None:
    folder = imported(tmp_path, write_onnx(tmp_path), draft_values(network=NETWORK))
    (folder / "model.onnx").write_bytes(onnx_bytes(WEIGHT + 1, BIAS))
    outcome = cli("models", "verify", "toy", "--models", tmp_path / "models", "--json")
    assert outcome.status == 1
    assert "MODEL_WEIGHTS_DIGEST" in outcome.out
