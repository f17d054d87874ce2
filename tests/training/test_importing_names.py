"""The same network in other libraries: every name finds its place, and answers are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.manifest import Manifest
from inference.networks import build_manifest_network
from tests.training.imports import draft_values, lively, write_draft
from training.importing.draft import read_draft
from training.importing.errors import WeightsDontFitError
from training.importing.names import fill_network
from training.importing.tensors import Tensors
from training.importing.twins import TWINS, Twin

MONAI = TWINS["densenet121"][1]
CASES = [
    (name, twin)
    for name, twins in TWINS.items()
    for twin in twins
    if name != "vgg16"  # half a gigabyte: by shapes only, below
]


def manifest(folder: Path, name: str, side: int = 64, **args: Any) -> Manifest:
    network = {"name": name, "channels": 2, "args": args}
    return read_draft(write_draft(folder, draft_values(2, side, network=network))).manifest()


@pytest.fixture
def small(tmp_path: Path) -> Manifest:
    return manifest(tmp_path, "mobilenetv2")


@pytest.fixture
def densenet(tmp_path: Path) -> Manifest:
    return manifest(tmp_path, "densenet121")


@pytest.mark.parametrize(("name", "twin"), CASES, ids=[twin.title for _, twin in CASES])
def test_tensors_of_a_twin_give_its_answers(tmp_path: Path, name: str, twin: Twin) -> None:
    torch.manual_seed(3)
    described = manifest(tmp_path, name, 80)
    theirs = lively(twin.build(2, 3))
    network = build_manifest_network(described).eval()
    fill_network(network, described, tensors_of(theirs), "x.pth")
    batch = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), theirs(batch), atol=1e-5, rtol=1e-4)


def test_vgg16_has_a_place_for_every_tensor(tmp_path: Path) -> None:
    described = manifest(tmp_path, "vgg16", 224)
    with torch.device("meta"):
        network = build_manifest_network(described)
    (twin,) = TWINS["vgg16"]
    ours = list(network.state_dict().values())
    theirs = list(twin.skeleton(2, 3).state_dict().values())
    assert [tensor.numel() for tensor in ours] == [tensor.numel() for tensor in theirs]
    changed = [a.shape[:2] for a, b in zip(ours, theirs, strict=True) if a.shape != b.shape]
    assert changed == [(4096, 512), (4096, 4096)]  # linear layers that timm has as convolutions


def tensors_of(network: torch.nn.Module) -> Tensors:
    return {
        name: tensor.clone()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def test_grey_input_old_names_and_a_wrapped_last_layer_are_understood(tmp_path: Path) -> None:
    """As CheXNet was published: DataParallel, names of 2017, a sequence around the classifier."""
    (twin, _) = TWINS["densenet121"]
    theirs = tensors_of(lively(twin.build(2, 1)))
    old = {f"module.densenet121.{old_name(name)}": tensor for name, tensor in theirs.items()}
    assert "module.densenet121.features.denseblock1.denselayer1.norm.1.weight" in old
    values = draft_values(2, 64, network={"name": "densenet121", "channels": 2})
    values["input"]["shape"][0] = 1
    described = read_draft(write_draft(tmp_path, values)).manifest()
    network = build_manifest_network(described)
    fill_network(network, described, old, "x.pth")
    assert torch.equal(network.classifier.weight, theirs["classifier.weight"])


def old_name(name: str) -> str:
    for kind in ("norm", "conv"):
        for number in ("1", "2"):
            if "denselayer" in name:
                name = name.replace(f".{kind}{number}.", f".{kind}.{number}.")
    return name.replace("classifier.", "classifier.0.")


def test_own_names_are_taken_as_they_are(small: Manifest) -> None:
    source = tensors_of(build_manifest_network(small))
    network = build_manifest_network(small)
    assert fill_network(network, small, source, "x.pth") == "mobilenetv2 here"
    assert torch.equal(network.bn2.weight, source["bn2.weight"])


def test_what_is_missing_and_what_is_too_much_is_counted_and_named(small: Manifest) -> None:
    source = tensors_of(build_manifest_network(small))
    for name in ("bn1.weight", "classifier.bias"):
        del source[name]
    source["head.a"] = source["head.b"] = source["head.c"] = source["head.d"] = torch.zeros(1)
    with pytest.raises(WeightsDontFitError) as caught:
        fill_network(build_manifest_network(small), small, source, "x.pth")
    assert str(caught.value) == (
        "x.pth doesn't fit network mobilenetv2: 2 tensors are missing (bn1.weight, "
        "classifier.bias) and 4 tensors are not part of it (head.a, head.b, head.c, …)."
    )


def test_weights_of_another_network_are_recognised(tmp_path: Path, densenet: Manifest) -> None:
    source = tensors_of(build_manifest_network(densenet))
    described = manifest(tmp_path, "resnet50")
    with pytest.raises(WeightsDontFitError, match=r"; it looks like densenet121\.$"):
        fill_network(build_manifest_network(described), described, source, "x.pth")


def test_a_tensor_of_another_shape_is_named_with_both(small: Manifest) -> None:
    source = tensors_of(build_manifest_network(small))
    source["bn1.weight"] = torch.zeros(31)
    with pytest.raises(WeightsDontFitError) as caught:
        fill_network(build_manifest_network(small), small, source, "x.pth")
    assert "1 tensor has another shape (bn1.weight is [31], not [32])" in str(caught.value)
