"""Boxes from the network's map to pixels of the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.boxes import best_of_each, iou, to_canvas, to_source
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.heads import LinearHead
from inference.manifest import InputSpec, NetworkRef
from inference.networks import build_manifest_network, build_network
from inference.pipelines.detection import detect
from inference.registry import ModelPackage, load_model
from inference.source_image import SourceImage
from inference.weights import save_weights
from tests.inference.factories import facts, manifest, manifest_data, write_manifest
from tests.inference.test_networks import INPUT

SPEC = InputSpec.model_validate(manifest_data()["input"])  # 64 x 64, letterbox


def test_overlap() -> None:
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [4, 4, 4, 4]])
    np.testing.assert_allclose(iou(box, others), [[1.0, 1 / 3, 0.0, 0.0]])


def test_boxes_go_to_the_canvas_and_back() -> None:
    boxes = np.array([[10.0, 20.0, 40.0, 90.0]])
    moved = to_canvas(boxes, 128, 64, SPEC)  # half the size, and 16 columns to the right
    np.testing.assert_allclose(moved, [[21.0, 10.0, 36.0, 45.0]])
    np.testing.assert_allclose(to_source(moved, 128, 64, SPEC), boxes)


def test_boxes_end_at_the_edges_of_the_source() -> None:
    moved = to_source(np.array([[0.0, -5.0, 64.0, 70.0]]), 128, 64, SPEC)
    np.testing.assert_allclose(moved, [[0.0, 0.0, 64.0, 128.0]])


def test_one_box_for_each_object() -> None:
    boxes = np.array(
        [[0.0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 6], [30, 30, 50, 50], [0, 0, 3, 3]]
    )
    scores = np.array([0.4, 0.8, 0.7, 0.3, 0.2])
    found, best, rows = best_of_each(boxes, scores)
    assert rows.tolist() == [1, 3, 4]  # a nested box is an object of its own
    assert best.tolist() == [0.8, 0.3, 0.2]
    # the two that nearly agree vote by their scores; the one of overlap 0.5 doesn't
    np.testing.assert_allclose(found[0], [2 / 3, 0, 10 + 2 / 3, 10])


def test_nothing_found() -> None:
    found, best, rows = best_of_each(np.empty((0, 4)), np.empty(0))
    assert (found.shape, best.shape, rows.shape) == ((0, 4), (0,), (0,))


class FakeBackend:
    """Gives the same tensors for every image."""

    name = "fake"
    resident_bytes = 0
    head = LinearHead(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))

    def __init__(self, logits: Any, boxes: Any) -> None:
        self.logits = np.array([logits], np.float32)
        self.boxes = np.array([boxes], np.float32)
        self.features = np.zeros((1, 2, 8, 8), np.float32)
        self.features[0, 0, 6, 2] = 1.0

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        assert batch.shape == (1, 3, 64, 64)
        return self.logits, self.boxes, self.features


def package(**changes: Any) -> ModelPackage:
    data = manifest(
        pipeline="detection",
        network={"name": "mobilenetv2-detector", "channels": 2},
        explain={"method": "gradcam", "layer": "tower"},
        calibration={},
        **changes,
    )
    return ModelPackage(Path("toy"), data, Path("toy/weights.safetensors"))


def image(rows: int = 128, columns: int = 64) -> SourceImage:
    return SourceImage.of(np.zeros((rows, columns), np.float32), facts(), None)


def test_boxes_of_an_image() -> None:
    backend = FakeBackend(
        [[3.0, -9.0], [2.0, -9.0], [-9.0, 1.0], [-1.0, -9.0]],
        [[16, 16, 32, 48], [16, 16, 32, 47], [40, 0, 48, 8], [20, 50, 30, 60]],
    )
    found = detect(package(), backend, image())
    assert [box.label for box in found.boxes] == ["Pneumonia", "Effusion"]
    first = found.boxes[0]
    assert (first.x_min, first.y_min, first.x_max) == (0.0, 32.0, 32.0)
    assert 94.0 < first.y_max < 96.0  # 47 and 48 on the canvas vote
    assert first.score == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert first.threshold == 0.5
    assert first.concept.value == "233604007"
    assert [finding.is_positive for finding in found.findings] == [True, True]
    assert found.findings[0].probability == first.score


def test_boxes_under_the_threshold_are_a_finding_only() -> None:
    backend = FakeBackend([[-1.0, -2.0]], [[16, 16, 32, 48]])
    found = detect(package(), backend, image())
    assert found.boxes == ()
    assert found.findings[0].probability == pytest.approx(1 / (1 + np.e))
    assert not found.findings[0].is_positive


def test_boxes_beside_the_image_are_none() -> None:
    """With letterbox the canvas is wider than the image: what lies in the black is no finding."""
    backend = FakeBackend([[5.0, -9.0]], [[0, 16, 15, 48]])
    found = detect(package(), backend, image())
    assert found.boxes == ()
    assert found.findings[0].probability == 0.0


def test_heatmap_shows_where_the_class_was_seen() -> None:
    backend = FakeBackend([[3.0, -9.0]], [[16, 48, 32, 60]])
    heatmap = detect(package(), backend, image()).heatmap
    assert heatmap is not None
    assert heatmap.array.shape == (128, 64)
    row, column = np.unravel_index(heatmap.array.argmax(), heatmap.array.shape)
    assert 96 <= row < 112  # place (6, 2) of 8 x 8
    assert 0 <= column < 16
    assert (heatmap.label, heatmap.layer) == ("Pneumonia", "tower")


def test_no_numbers_are_an_error() -> None:
    with pytest.raises(BackendError, match="not a number"):
        detect(package(), FakeBackend([[np.nan, 0.0]], [[0, 0, 9, 9]]), image())


@pytest.mark.parametrize("name", ["mobilenetv2-detector", "pvt-v2-b0-detector"])
def test_untrained_detector_has_a_small_box_round_every_place(name: str) -> None:
    spec = INPUT.model_copy(update={"shape": (3, 64, 96)})
    network = build_network(NetworkRef(name=name, channels=2), spec).eval()
    torch.nn.init.zeros_(network.edges.weight)
    with torch.inference_mode():
        logits, boxes, features = network(torch.zeros(1, 3, 64, 96))
    assert (logits.shape, boxes.shape) == ((1, 96, 2), (1, 96, 4))
    assert features.shape == (1, 64, 8, 12)
    assert boxes[0, 0].tolist() == [-20.0, -20.0, 28.0, 28.0]  # 24 px each way from (4, 4)
    assert boxes[0, 13].tolist() == [-12.0, -12.0, 36.0, 36.0]  # second row, second column


@pytest.mark.parametrize("name", ["mobilenetv2-detector", "pvt-v2-b0-detector"])
def test_converted_detector_agrees_with_torch(name: str, tmp_path: Path) -> None:
    data = manifest_data(
        pipeline="detection",
        network={"name": name, "channels": 2},
        explain={"method": "gradcam", "layer": "tower"},
    )
    folder = tmp_path / "toy"
    folder.mkdir()
    torch.manual_seed(7)
    network = build_manifest_network(manifest(**data))
    torch.nn.init.normal_(network.score.weight)
    data["weights"]["sha256"] = save_weights(network, folder / "weights.safetensors")
    write_manifest(folder, data)
    loaded = load_model(folder)
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    engines = [engine(loaded, InferenceConfig()) for engine in (TorchBackend, OpenVinoBackend)]
    for expected, actual in zip(*(engine.run(batch) for engine in engines), strict=True):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-3)
    assert engines[1].head is not None
    alpha = engines[1].head.channel_weights(np.zeros((64, 8, 8), np.float32), 1)
    np.testing.assert_allclose(alpha * 64, network.score.weight[1, :, 0, 0].detach(), rtol=1e-6)
