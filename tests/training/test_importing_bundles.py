"""MONAI bundles: the network is read, nothing in them is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from inference.networks import build_manifest_network
from inference.registry import load_model
from inference.weights import load_weights
from tests.training.imports import imported, lively, segmenter_values, write_bundle
from training.importing.errors import (
    DraftError,
    ForeignNetworkError,
    ImportingError,
    SourceError,
    UnsafeSourceError,
    WeightsDontFitError,
)
from training.importing.monai_bundle import read_bundle

UNET: dict[str, Any] = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": "@classes",
    "channels": [4, 8, 16],
    "strides": [2, 2],
    "num_res_units": 2,
    "norm": "batch",
    "dropout": 0.1,
}
SEGRESNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "init_filters": 8,
    "blocks_down": [1, 2],
    "blocks_up": [1],
    "norm": ["GROUP", {"num_groups": 8}],
    "dropout_prob": 0.2,
}
BASIC: dict[str, Any] = {
    "_target_": "BasicUNet",
    "in_channels": 1,
    "out_channels": 2,
    "spatial_dims": 2,
    "features": [4, 4, 8, 8, 16, 4],
}


def their_network(definition: dict[str, Any]) -> torch.nn.Module:
    from monai.networks import nets

    options = {key: value for key, value in definition.items() if key != "_target_"}
    torch.manual_seed(2)
    options["out_channels"] = 2
    return lively(getattr(nets, definition["_target_"].rpartition(".")[2])(**options))


@pytest.fixture
def values() -> dict[str, Any]:
    """A draft that leaves the network to the bundle."""
    return draft((1, 32, 32))


def draft(shape: tuple[int, ...]) -> dict[str, Any]:
    data = segmenter_values(shape, activation="softmax")
    del data["network"]
    data["outputs"][0]["channel"] = 1
    return data


@pytest.mark.parametrize(
    ("definition", "shape"),
    [(UNET, (1, 32, 32)), (BASIC, (1, 32, 32)), (SEGRESNET, (1, 8, 16, 16))],
    ids=["UNet", "BasicUNet", "SegResNet"],
)
def test_network_of_a_bundle_answers_as_in_monai(
    tmp_path: Path, definition: dict[str, Any], shape: tuple[int, ...]
) -> None:
    theirs = their_network(definition)
    bundle = read_bundle(write_bundle(tmp_path / "bundle", theirs, **definition))
    assert (bundle.channels, bundle.dims, bundle.network.channels) == (1, len(shape) - 1, 2)
    assert bundle.network.args["dims"] == bundle.dims
    from inference.manifest import InputSpec
    from inference.networks import build_network

    unit = "series" if len(shape) == 4 else "image"
    spec = InputSpec(shape=shape, unit=unit, color="gray", resize="squash", mean=(0.0,), std=(1.0,))
    network = build_network(bundle.network, spec).eval()
    network.load_state_dict(bundle.found.tensors, strict=False)
    batch = torch.randn(1, *shape)
    with torch.inference_mode():
        torch.testing.assert_close(network(batch), theirs(batch))


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_bundle_becomes_a_folder_that_verifies(
    tmp_path: Path, values: dict[str, Any], suffix: str
) -> None:
    theirs = their_network(UNET)
    bundle = write_bundle(tmp_path / "bundle", theirs, **UNET)
    if suffix == "yaml":
        config = bundle / "configs" / "inference.json"
        content = json.loads(config.read_text())
        config.unlink()
        config.with_suffix(".yaml").write_text(yaml.safe_dump(content))
    package = load_model(imported(tmp_path, bundle, values))
    assert package.manifest.network.args == {
        "dims": 2, "channels": "4-8-16", "strides": "2-2", "num_res_units": 2, "norm": "batch",
    }  # fmt: skip
    network = build_manifest_network(package.manifest)
    load_weights(network, package.weights)
    expected = theirs.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]) or name.endswith("num_batches_tracked")


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"out_channels": "$1 + 1"}, UnsafeSourceError, "is the expression '$1 + 1'"),
        ({"channels": "$[2 ** n for n in range(3)]"}, UnsafeSourceError, "not evaluated"),
        ({"act": {"_target_": "os.system"}}, UnsafeSourceError, "would import 'os.system'"),
        ({"out_channels": "@device"}, UnsafeSourceError, "is the expression"),
        ({"out_channels": "@labels#7"}, SourceError, "refers to 'labels#7', which isn't there"),
        ({"out_channels": "@network_def::out_channels"}, SourceError, "refers to itself"),
        ({"in_channels": "one"}, SourceError, "in_channels must be a number"),
        ({"_target_": "os.system"}, ForeignNetworkError, "network 'os.system' is not on the list"),
        ({"_target_": "mine.UNet"}, ForeignNetworkError, "network 'mine.UNet' is not on the list"),
        ({"_target_": "UNETR"}, ForeignNetworkError, "bundles of UNet, BasicUNet"),
        ({"norm": ["group", {"num_groups": 2}]}, ForeignNetworkError, "norm = ['group'"),
        ({"norm": "layer"}, ForeignNetworkError, "has no argument norm=layer"),
        ({"attention": True}, ForeignNetworkError, "attention = True is not supported"),
    ],
)
def test_what_isnt_plain_or_known_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[ImportingError], sentence: str
) -> None:
    bundle = write_bundle(tmp_path / "bundle", torch.nn.Linear(1, 1), **UNET | changes)
    with pytest.raises(error) as caught:
        read_bundle(bundle)
    assert str(caught.value).startswith("configs/inference.json: ")
    assert sentence in str(caught.value)


def test_draft_and_bundle_have_to_agree(tmp_path: Path, values: dict[str, Any]) -> None:
    bundle = write_bundle(tmp_path / "bundle", their_network(UNET), **UNET)
    with pytest.raises(DraftError, match=r"needs input.shape \[1, rows, columns\], not \[3, "):
        imported(tmp_path, bundle, draft((3, 32, 32)))
    other = {"name": "monai-unet", "channels": 2, "args": {"dims": 2}}
    with pytest.raises(DraftError, match="network is not what the bundle says"):
        imported(tmp_path, bundle, values | {"network": other})
    with pytest.raises(DraftError, match=r"can't take input.shape \[1, 30, 30\]"):
        imported(tmp_path, bundle, draft((1, 30, 30)))


def test_weights_of_another_network_dont_fit(tmp_path: Path, values: dict[str, Any]) -> None:
    bundle = write_bundle(tmp_path / "bundle", their_network(BASIC), **UNET)
    with pytest.raises(WeightsDontFitError, match=r"^model.pt doesn't fit network monai-unet: "):
        imported(tmp_path, bundle, values)


def test_folder_that_is_no_bundle_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no MONAI bundle: it has no configs/inference.json"):
        read_bundle(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.json").write_text("{")
    with pytest.raises(SourceError, match="can't be read"):
        read_bundle(tmp_path)
    (tmp_path / "configs" / "inference.json").write_text('{"network": "$build()"}')
    with pytest.raises(SourceError, match="has no network_def with plain values"):
        read_bundle(tmp_path)
    (tmp_path / "configs" / "inference.json").write_text('{"network_def": {"_target_": "UNet"}}')
    with pytest.raises(SourceError, match=r"There is no file .*models/model.pt"):
        read_bundle(tmp_path)
