from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import ModelPackageError
from inference.heads import AutogradHead, LinearHead, open_head
from inference.manifest import InputSpec, NetworkRef
from inference.network_table import NETWORKS
from inference.networks import build_manifest_network, build_network
from inference.registry import ModelPackage, load_model
from inference.weights import load_weights, read_tensors, save_weights, sha256_of
from tests.inference.factories import manifest_data, write_model

INPUT = InputSpec.model_validate(manifest_data()["input"])


@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS[name].kind == "classifier"])
def test_table_is_right_about_every_network(name: str) -> None:
    """Shapes on the meta device, without weights: the layer, and what lies behind it."""
    entry = NETWORKS[name]
    side = 32 if name == "vgg16" else max(64, entry.minimum_side + 5)
    spec = INPUT.model_copy(update={"shape": (3, side, side)})
    with torch.device("meta"):
        network = build_network(NetworkRef(name=name, channels=2), spec).eval()
        seen = []
        network.get_submodule(entry.layer).register_forward_hook(lambda *call: seen.append(call[2]))
        features = network.forward_features(torch.zeros(2, 3, side, side))
    assert features.ndim == 4
    assert seen[-1].shape == features.shape
    assert network.forward_head(features).shape == (2, 2)
    if entry.linear_head is not None:
        weight = network.get_parameter(f"{entry.linear_head}.weight")
        assert weight.shape == (2, features.shape[1])


@pytest.mark.parametrize(
    "name",
    [name for name, entry in NETWORKS.items() if entry.linear_head and entry.kind == "classifier"],
)
def test_closed_form_is_the_gradient_of_the_head(name: str) -> None:
    entry = NETWORKS[name]
    spec = INPUT.model_copy(update={"shape": (3, 96, 96)})
    with torch.device("meta"):
        network = build_network(NetworkRef(name=name, channels=2), spec).eval()
    network.to_empty(device="cpu")  # nothing but the last layer gets values
    weight = network.get_parameter(f"{entry.linear_head}.weight")
    torch.nn.init.normal_(weight)
    torch.nn.init.zeros_(network.get_parameter(f"{entry.linear_head}.bias"))
    maps = torch.rand(1, weight.shape[1], 3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.forward_head(maps)[0, 1], maps)
    head = LinearHead(weight.detach().numpy())
    np.testing.assert_allclose(
        head.channel_weights(maps[0].detach().numpy(), 1),
        gradient[0].mean(dim=(1, 2)).numpy(),
        rtol=1e-5,
    )


def test_any_other_head_is_differentiated_by_torch(toy: ModelPackage) -> None:
    features = np.random.default_rng(0).random((1280, 2, 2), np.float32)
    expected = open_head(toy)
    assert isinstance(expected, LinearHead)
    for channel in (0, 1):
        np.testing.assert_allclose(
            AutogradHead(toy).channel_weights(features, channel),
            expected.channel_weights(features, channel),
            rtol=1e-5,
        )


def test_converted_efficientnet_agrees_with_torch(tmp_path: Path) -> None:
    """MobileNetV2 is compared in test_backends."""
    package = load_model(
        write_model(
            tmp_path,
            network={"name": "efficientnet-b0", "channels": 2},
        )
    )
    batch = np.random.default_rng(0).random((2, 3, 64, 64), np.float32)
    for expected, actual in zip(
        TorchBackend(package, InferenceConfig()).run(batch),
        OpenVinoBackend(package, InferenceConfig()).run(batch),
        strict=True,
    ):
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, atol=1e-4 * scale)


def test_same_padding_is_tensorflows() -> None:
    def sizes(padding: str) -> torch.Tensor:
        ref = NetworkRef(name="mobilenetv2", channels=1, args={"padding": padding})
        stem = build_network(ref, INPUT).conv_stem
        torch.nn.init.constant_(stem.weight, 1.0)
        return stem(torch.ones(1, 3, 64, 64))[0, 0]

    # 3x3 at stride 2: SAME pads the right and lower edge only, torch's all edges alike
    same, plain = sizes("same"), sizes("torch")
    assert (same[0, 0], same[0, -1], same[-1, -1]) == (27, 18, 12)
    assert (plain[0, 0], plain[0, -1], plain[-1, -1]) == (12, 18, 27)


def test_too_small_input_is_refused() -> None:
    small = INPUT.model_copy(update={"shape": (3, 64, 64)})
    with pytest.raises(ModelPackageError, match="at least 75"):
        build_network(NetworkRef(name="inception-v3", channels=1), small, "x")


def test_half_precision_weights_are_served_as_float32(toy: ModelPackage, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    tensors = load_file(toy.weights)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, half)
    network = build_manifest_network(toy.manifest)
    load_weights(network, half)
    assert network.conv_stem.weight.dtype == torch.float32
    torch.testing.assert_close(
        network.classifier.weight.detach(), tensors["classifier.weight"], atol=1e-3, rtol=0
    )


def test_saved_weights_load_again(toy: ModelPackage, tmp_path: Path) -> None:
    network = build_manifest_network(toy.manifest)
    path = tmp_path / "weights.safetensors"
    assert save_weights(network, path) == sha256_of(path)
    other = build_manifest_network(toy.manifest)
    load_weights(other, path)
    torch.testing.assert_close(other.state_dict(), network.state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("conv_stem.weight"), "conv_stem.weight is missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "extra is not part of it"),
        (
            lambda tensors: tensors.update({"classifier.bias": torch.zeros(3)}),
            r"classifier.bias is \[3\], not \[2\]",
        ),
        (
            lambda tensors: tensors.update({"classifier.bias": torch.full((2,), torch.nan)}),
            "not finite",
        ),
    ],
    ids=["missing", "surplus", "shape", "nan"],
)
def test_weights_that_do_not_fit(
    toy: ModelPackage, tmp_path: Path, change: object, words: str
) -> None:
    tensors = load_file(toy.weights)
    change(tensors)  # type: ignore[operator]  # one of the functions above
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    with pytest.raises(ModelPackageError, match=words) as caught:
        load_weights(build_manifest_network(toy.manifest), path)
    assert caught.value.code == "MODEL_WEIGHTS_MISMATCH"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle in a zip", b"\x80\x04K*."])
def test_only_safetensors_are_read(toy: ModelPackage, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    for read in (
        lambda: load_weights(build_manifest_network(toy.manifest), path),
        lambda: read_tensors(path, ("classifier.weight",)),
    ):
        with pytest.raises(ModelPackageError) as caught:
            read()
        assert caught.value.code == "MODEL_WEIGHTS_UNREADABLE"


def test_head_without_its_tensor(toy: ModelPackage, tmp_path: Path) -> None:
    tensors = load_file(toy.weights)
    del tensors["classifier.weight"]
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    with pytest.raises(ModelPackageError, match=r"classifier.weight is missing"):
        open_head(ModelPackage(tmp_path, toy.manifest, path))
