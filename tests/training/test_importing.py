"""``models import``: weights of others become a folder that verifies, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.networks import build_manifest_network
from inference.operators import ready_torchvision
from inference.registry import load_model
from inference.weights import load_weights
from tests.training.conftest import Cli
from tests.training.imports import draft_values, imported, lively, write_draft
from tests.training.test_start_weights import packed
from training.importing.draft import read_draft
from training.importing.errors import DraftError, ImportingError, WeightsDontFitError
from training.verify import verify_folder

SAME = {"name": "mobilenetv2", "channels": 2, "args": {"padding": "same"}}


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    """torchvision's MobileNetV2 for two classes."""
    ready_torchvision()
    from torchvision import models

    torch.manual_seed(4)
    return lively(models.mobilenet_v2(weights=None, num_classes=2))


@pytest.fixture(scope="module")
def checkpoint(theirs: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trainer on several GPUs leaves behind."""
    path = tmp_path_factory.mktemp("theirs") / "best.pth.tar"
    tensors = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"epoch": 7, "best": np.float64(0.9), "state_dict": tensors}, path)
    return path


def test_weights_of_torchvision_become_a_folder_that_verifies(
    cli: Cli, theirs: torch.nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    draft = write_draft(tmp_path, draft_values())
    outcome = cli("models", "import", checkpoint, "--manifest", draft, "--out", tmp_path / "models")
    assert (outcome.status, outcome.out.split()[1:4]) == (0, ["is", "ready,", "not"])
    folder = tmp_path / "models" / "toy"
    assert {path.name for path in folder.iterdir()} == {
        "manifest.yaml",
        "weights.safetensors",
        "golden.json",
        "metrics.json",
        "MODEL_CARD.md",
    }
    package = load_model(folder)
    assert package.manifest.explain is not None  # its network can be explained
    network = build_manifest_network(package.manifest).eval()
    load_weights(network, package.weights)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), theirs(batch))
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Imported, not evaluated here" in card
    assert "torchvision's mobilenet_v2" in card
    record = json.loads((folder / "metrics.json").read_text())
    assert (record["n"], record["metrics"]) == (0, {})
    assert record["how"]["imported"]["key"] == "state_dict"
    assert all(check.is_passed for check in verify_folder(folder))

    again = cli("models", "import", checkpoint, "--manifest", draft, "--out", tmp_path / "models")
    assert again.status == 1
    assert again.err.startswith("OUTPUT_EXISTS: ")


def test_weights_that_dont_fit_leave_nothing_behind(
    cli: Cli, checkpoint: Path, tmp_path: Path
) -> None:
    values = draft_values()
    values["network"]["channels"] = 3
    draft = write_draft(tmp_path, values)
    outcome = cli("models", "import", checkpoint, "--manifest", draft, "--out", tmp_path / "models")
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == (
        "IMPORT_MISMATCH: best.pth.tar doesn't fit network mobilenetv2: 2 tensors have another "
        "shape (classifier.1.weight is [2, 1280], not [3, 1280], classifier.1.bias is [2], not "
        "[3]); check network.channels and input.shape."
    )
    assert not (tmp_path / "models").exists()


def test_weights_meant_for_other_padding_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsDontFitError, match="answers otherwise than torchvision's mobilenet"):
        imported(tmp_path, checkpoint, draft_values(network=SAME))


def test_packed_int8_file_is_taken_whole(tmp_path: Path) -> None:
    values = draft_values(network=SAME)
    source = lively(build_manifest_network(read_draft(write_draft(tmp_path, values)).manifest()))
    arrays = packed(source)
    arrays["classifier.1.weight_q"] = (
        np.arange(-1280, 1280).reshape(2, 1280).clip(-127, 127).astype("i1")
    )
    arrays["classifier.1.scale"] = np.array([0.01, 0.02], np.float32)
    arrays["classifier.1.bias"] = np.array([0.3, -0.4], np.float32)
    path = tmp_path / "network.npz"
    np.savez(path, **arrays)
    package = load_model(imported(tmp_path, path, values))
    network = build_manifest_network(package.manifest)
    load_weights(network, package.weights)
    weight = arrays["classifier.1.weight_q"] * arrays["classifier.1.scale"][:, np.newaxis]
    np.testing.assert_allclose(network.classifier.weight.detach().numpy(), weight, rtol=1e-6)
    np.testing.assert_allclose(
        network.classifier.bias.detach().numpy(), arrays["classifier.1.bias"]
    )

    for changes, words in (
        ({"network": SAME | {"args": {}}}, "needs network.args {padding: same}"),
        ({"network": SAME | {"channels": 3}}, "gives 2 logits; check network.channels"),
    ):
        with pytest.raises(WeightsDontFitError, match=words):
            imported(tmp_path, path, values | changes | {"id": "other"})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activatoin": "sigmoid"}, "unknown key 'activatoin'; did you mean 'activation'?"),
        ({"weights": {}}, "take out weights; the import writes it"),
        ({"id": "Toy"}, "id: "),
        ({"network": {"name": "mobilnetv2", "channels": 2}}, "did you mean 'mobilenetv2'?"),
        ({"network": {"name": "onnx", "channels": 2}}, "network onnx needs an .onnx file"),
        ({"licence": None}, "licence: "),
        (
            {"network": {"name": "wnet", "channels": 2}},
            "network wnet is a segmenter; pipeline classification needs a classifier",
        ),
        (
            {"pipeline": "detection", "network": {"name": "onnx", "channels": 2}},
            "ONNX files are taken for classification and segmentation only",
        ),
    ],
)
def test_wrong_draft_says_what_is_wrong(
    checkpoint: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DraftError) as caught:
        imported(tmp_path, checkpoint, draft_values() | changes)
    assert str(caught.value).startswith("draft.yaml: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read"),
        (b"id: [", "is not valid YAML (line "),
        (b"\xff", "is not valid YAML"),
        (b"- id", "must hold keys and values"),
        (b"a: " + 300_000 * b"b", "is too long for a draft"),
    ],
)
def test_unreadable_draft_is_named(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "draft.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DraftError) as caught:
        read_draft(path)
    assert sentence in str(caught.value)


def test_input_that_the_network_cant_take_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    values = draft_values(network={"name": "inception-v3", "channels": 2})
    with pytest.raises(ImportingError, match=r"^draft.yaml: input.shape of inception-v3 needs"):
        imported(tmp_path, checkpoint, values)
