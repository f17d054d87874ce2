"""Start weights: packed int8 files and other checkpoints, and files that don't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inference.manifest import InputSpec, NetworkRef
from inference.networks import build_network
from inference.weights import sha256_of
from tests.training.conftest import Cli
from tests.training.factories import recipe_values, write_recipe
from training.errors import StartWeightsError
from training.start_weights import load_start_weights, zero_last_layer

SPEC = InputSpec(shape=(3, 32, 32), color="gray", resize="squash", mean=(0.5,), std=(0.5,))


def network(channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkRef(name="mobilenetv2", channels=channels), SPEC).eval()


def packed(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Pack convolutions as int8; batch norms of a fresh network only scale by 1/sqrt(1 + eps)."""
    arrays: dict[str, np.ndarray] = {}
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    generator = np.random.default_rng(4)
    for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        scale = convolution.weight.detach().abs().amax(dim=(1, 2, 3)).numpy() / 127
        weight = convolution.weight.detach().numpy() / scale.reshape(-1, 1, 1, 1)
        bias = generator.normal(0, 0.1, len(scale)).astype(np.float32)
        name = f"features.{number}.conv"
        arrays[f"{name}.weight_q"] = weight.round().astype(np.int8)
        arrays[f"{name}.scale"] = scale
        arrays[f"{name}.bias"] = bias
        with torch.no_grad():  # the network that the file describes
            rounded = arrays[f"{name}.weight_q"] * scale.reshape(-1, 1, 1, 1)
            convolution.weight.copy_(torch.from_numpy(rounded))
            norm.bias.copy_(torch.from_numpy(bias))
            norm.running_var.fill_(1.0 - norm.eps)  # type: ignore[union-attr]
    arrays["classifier.1.weight_q"] = np.zeros((1000, 1280), np.int8)
    return arrays


def test_packed_weights_give_the_function_they_were_made_from(tmp_path: Path) -> None:
    source = network()
    np.savez(tmp_path / "start.npz", **packed(source))
    target: Any = build_network(NetworkRef(name="mobilenetv2", channels=1), SPEC).eval()
    load_start_weights(target, tmp_path / "start.npz", sha256_of(tmp_path / "start.npz"))
    batch = torch.randn(2, 3, 32, 32)
    expected = source.forward_features(batch)  # type: ignore[operator]
    assert torch.allclose(target.forward_features(batch), expected, atol=1e-5)


def test_checkpoint_with_another_number_of_classes_fills_all_but_the_last_layer(
    tmp_path: Path,
) -> None:
    source = network(channels=1)
    save_file(source.state_dict(), tmp_path / "start.safetensors")
    torch.manual_seed(9)
    target = build_network(NetworkRef(name="mobilenetv2", channels=4), SPEC)
    load_start_weights(target, tmp_path / "start.safetensors")
    zero_last_layer(target)
    state, expected = target.state_dict(), source.state_dict()
    assert torch.equal(state["blocks.3.0.conv_pw.weight"], expected["blocks.3.0.conv_pw.weight"])
    assert state["classifier.weight"].shape == (4, 1280)
    assert not state["classifier.weight"].any()


def write_bad(folder: Path, kind: str) -> Path:
    path = folder / ("start.safetensors" if kind.startswith("named") else "start.npz")
    arrays = packed(network())
    tensors = network().state_dict()
    match kind:
        case "damaged":
            path.write_bytes(b"PK\x03\x04damaged")
        case "too few":
            del arrays["features.0.conv.weight_q"]
            np.savez(path, **arrays)
        case "no bias":
            del arrays["features.0.conv.bias"]
            np.savez(path, **arrays)
        case "shape":
            arrays["features.0.conv.weight_q"] = arrays["features.0.conv.weight_q"][:, :1]
            np.savez(path, **arrays)
        case "named damaged":
            path.write_bytes(b"damaged")
        case "named missing":
            del tensors["conv_head.weight"]
            save_file(tensors, path)
        case "named shape":
            tensors["conv_head.weight"] = torch.zeros(7, 320, 1, 1)
            save_file(tensors, path)
        case "suffix":
            path = folder / "start.pth"
            path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("absent", "There is no start weights file"),
        ("suffix", "start weights are .npz or .safetensors files"),
        ("damaged", "not a readable .npz file"),
        ("too few", "has 51 convolutions, the network has 52"),
        ("no bias", "has no features.0.conv.bias"),
        ("shape", "features.0.conv is [32, 1, 3, 3], not [32, 3, 3, 3]"),
        ("named damaged", "not a complete safetensors file"),
        ("named missing", "conv_head.weight is missing"),
        ("named shape", "conv_head.weight is [7, 320, 1, 1], not [1280, 320, 1, 1]"),
    ],
)
def test_start_weights_that_dont_fit_say_why(tmp_path: Path, kind: str, sentence: str) -> None:
    path = write_bad(tmp_path, kind)
    with pytest.raises(StartWeightsError) as caught:
        load_start_weights(network(), path)
    assert sentence in str(caught.value)


def test_another_file_than_the_recipe_names_is_refused(tmp_path: Path) -> None:
    path = write_bad(tmp_path, "shape")
    with pytest.raises(StartWeightsError, match="is not the file that the recipe names"):
        load_start_weights(network(), path, "0" * 64)


def test_recipe_with_start_weights_asks_for_the_file(
    cli: Cli, data_dir: Path, tmp_path: Path
) -> None:
    values = recipe_values() | {"start_weights": {"name": "ImageNet", "licence": "MIT"}}
    recipe = write_recipe(tmp_path / "recipe.yaml", values)
    outcome = cli("train", recipe, "--data", data_dir, "--out", tmp_path / "out")
    assert outcome.status == 1
    assert outcome.err.startswith("START_WEIGHTS: The recipe starts from ImageNet")
    assert outcome.err.count("\n") == 1
