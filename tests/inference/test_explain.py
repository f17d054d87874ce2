from __future__ import annotations

import numpy as np
import pytest
import torch

from inference.explain import grad_cam, to_source_grid
from inference.heads import LinearHead
from inference.manifest import InputSpec
from inference.networks import build_manifest_network
from inference.operators import ready_torchvision
from inference.preprocessing import prepare
from inference.registry import ModelPackage
from inference.weights import load_weights
from tests.inference.factories import manifest_data


def input_spec(resize: str) -> InputSpec:
    return InputSpec.model_validate(manifest_data()["input"] | {"resize": resize})


def test_known_answer() -> None:
    features = np.array([[[1, 2], [3, 4]], [[1, 0], [0, 5]]], np.float32)
    head = LinearHead(np.array([[1, -1], [-1, 0]], np.float32))
    # relu(1 * f0 - 1 * f1) = [[0, 2], [3, 0]]
    np.testing.assert_allclose(grad_cam(features, head, 0), [[0, 2 / 3], [1, 0]])
    np.testing.assert_array_equal(grad_cam(features, head, 1), np.zeros((2, 2)))


def test_uniform_evidence_is_no_evidence() -> None:
    head = LinearHead(np.ones((1, 1), np.float32))
    assert not grad_cam(np.ones((1, 3, 3), np.float32), head, 0).any()


@pytest.mark.parametrize("channel", [0, 1])
def test_same_map_as_the_package_grad_cam(toy: ModelPackage, channel: int) -> None:
    ready_torchvision()
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = build_manifest_network(toy.manifest).eval()
    load_weights(network, toy.weights)
    spec = toy.manifest.input.model_copy(update={"shape": (3, 224, 224)})
    rng = np.random.default_rng(channel)
    for _ in range(2):
        blobs = rng.random((7, 7), np.float32).repeat(32, axis=0).repeat(32, axis=1)
        tensor = torch.from_numpy(prepare(blobs, spec)[np.newaxis])
        with GradCAM(model=network, target_layers=[network.bn2]) as reference:
            expected = reference(tensor, targets=[ClassifierOutputTarget(channel)])[0]
        with torch.inference_mode():
            features = network.forward_features(tensor)[0].numpy()
        head = LinearHead(network.classifier.weight.detach().numpy())
        actual = to_source_grid(grad_cam(features, head, channel), 224, 224, spec)
        assert expected.max() > 0.9
        assert np.abs(actual - expected).max() < 0.01
        assert np.abs(actual - expected).mean() < 0.001


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
@pytest.mark.parametrize("shape", [(400, 200), (150, 600), (64, 64)])
def test_hot_spot_lands_where_it_is_in_the_source(resize: str, shape: tuple[int, int]) -> None:
    """The brightest place of the image, seen through the canvas, comes back to itself."""
    spec = input_spec(resize)
    rows, columns = shape
    row, column = int(rows * 0.3), int(columns * 0.7)
    y, x = np.mgrid[:rows, :columns]
    image = np.exp(-(((y - row) / rows) ** 2 + ((x - column) / columns) ** 2) / 0.005)
    canvas = prepare(image.astype(np.float32), spec)[0] * 0.25 + 0.5
    cam = canvas.reshape(16, 4, 16, 4).mean(axis=(1, 3))  # a network of stride 4
    heatmap = to_source_grid(cam.astype(np.float32), rows, columns, spec)
    assert heatmap.shape == shape
    assert heatmap.dtype == np.float32
    assert heatmap.min() == 0
    assert heatmap.max() == 1
    top, left = np.unravel_index(heatmap.argmax(), shape)
    assert abs(top - row) <= rows / 16
    assert abs(left - column) <= columns / 16


def test_black_border_of_the_letterbox_is_cut_off() -> None:
    cam = np.zeros((8, 8), np.float32)
    cam[:2] = 1  # only on the border above a wide image
    cam[4, 4] = 0.5
    heatmap = to_source_grid(cam, 100, 400, input_spec("letterbox"))
    top, left = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert heatmap.max() == 1
    assert top > 40
    assert left > 150
