"""W-Net: two small U-Nets in a row, as published; served like any other segmenter."""

from __future__ import annotations

from pathlib import Path

import torch

from inference.manifest import InputSpec, NetworkRef
from inference.networks import build_network
from inference.registry import load_model
from tests.training.imports import imported, lively, segmenter_values

NETWORK = {"name": "wnet", "channels": 1}


def wnet() -> torch.nn.Module:
    torch.manual_seed(6)
    spec = InputSpec(shape=(3, 32, 32), color="rgb", resize="squash", mean=(0.0,), std=(1.0,))
    return lively(build_network(NetworkRef(name="wnet", channels=1), spec))


def test_tensors_are_those_of_the_published_file() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in wnet().state_dict().items()}
    assert len(shapes) == 240
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 69_572
    assert shapes["unet1.first.shortcut.0.weight"] == (8, 3, 1, 1)
    assert shapes["unet2.first.block.0.weight"] == (8, 4, 3, 3)  # the image and the first's logits
    assert shapes["unet1.up_path.0.up_layer.block.0.weight"] == (32, 16, 2, 2)
    assert shapes["unet2.up_path.1.conv_bridge_layer.block.2.running_var"] == (8,)


def test_second_network_sees_image_and_logits_of_the_first() -> None:
    network = wnet()
    batch = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        first = network.unet1(batch)
        expected = network.unet2(torch.cat([batch, first], dim=1))
        torch.testing.assert_close(network(batch), expected)
    assert first.shape == expected.shape == (1, 1, 32, 32)


def test_weights_with_optimizer_state_become_a_folder_that_verifies(tmp_path: Path) -> None:
    source = tmp_path / "wnet.pth"
    torch.save({"model_state_dict": wnet().state_dict(), "stats": None}, source)
    values = segmenter_values((3, 32, 32), network=NETWORK)
    package = load_model(imported(tmp_path, source, values))
    assert package.manifest.explain is None
