"""Masks from logits, on the grid of the source, the same from every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from pydicom import Dataset

from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import BackendError, WrongSourceError
from inference.manifest import InputSpec, Manifest, NetworkRef
from inference.networks import build_manifest_network, build_network
from inference.pipelines import run_pipeline
from inference.pipelines.segmentation import masks_of, segment_image, segment_volume
from inference.registry import ModelPackage, load_model
from inference.source_image import SourceImage
from inference.volume import Volume
from inference.volume_input import network_sides, network_values, on_source_grid, value_range
from inference.weights import save_weights
from ledger.domain import InstanceFacts
from tests.inference.factories import facts, manifest, manifest_data

CONCEPT = {"scheme": "SCT", "value": "82471001", "meaning": "Left atrium"}
LPS = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
"""Slices to the head, 2 mm apart, rows to the back, columns to the left."""


def output(label: str, channel: int = 0, **changes: Any) -> dict[str, Any]:
    return {"label": label, "channel": channel, "threshold": 0.5, "concept": CONCEPT} | changes


def segmenter(*outputs: dict[str, Any], **changes: Any) -> Manifest:
    """Return a manifest of a network that gives its input back; see :class:`Echo`."""
    spec = {
        "shape": [1, 32, 32],
        "color": "gray",
        "resize": "letterbox",
        "mean": [0.5],
        "std": [0.1],
    }
    spec |= changes.pop("input", {})
    values: dict[str, Any] = {
        "pipeline": "segmentation",
        "input": spec,
        "network": {"name": "unet-2d", "channels": 1},
        "explain": None,
        "calibration": {},
        "activation": "sigmoid",
        "outputs": list(outputs or (output("Bright"),)),
    }
    return manifest(**(values | changes))


class Echo:
    """A backend whose logits are the network's input: bright is positive."""

    name, resident_bytes, head = "echo", 0, None

    def __init__(self) -> None:
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        self.shapes.add(batch.shape)
        return (batch[:, :1].copy(),)


def package_of(found: Manifest) -> ModelPackage:
    return ModelPackage(Path(), found, Path())


def image_of(pixels: NDArray[np.float32]) -> SourceImage:
    return SourceImage.of(pixels, facts(), None)


def ball(sides: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> Any:
    grid = np.stack(np.mgrid[tuple(slice(side) for side in sides)], axis=-1)
    return ((grid - np.array(centre)) ** 2).sum(axis=-1) < radius**2


@pytest.mark.parametrize("shape", [(64, 64), (50, 100), (100, 30), (20, 20)])
@pytest.mark.parametrize("resize", ["letterbox", "squash"])
def test_mask_lies_on_the_source(shape: tuple[int, int], resize: str) -> None:
    found = segmenter(input={"resize": resize, "shape": [1, 64, 64]})
    pixels = np.zeros(shape, np.float32)
    rows, columns = shape
    pixels[rows // 4 : rows // 2, columns // 3 : columns // 2] = 1.0
    prediction = segment_image(package_of(found), Echo(), image_of(pixels))
    (segment,) = prediction.segments
    assert segment.mask.shape == shape
    assert segment.mask.dtype == np.bool_
    assert segment.volume_ml is None
    overlap = 2 * (segment.mask & (pixels > 0)).sum() / (segment.mask.sum() + pixels.sum())
    assert overlap > 0.85
    assert prediction.sop_instance_uids == (facts().sop_instance_uid,)


def test_softmax_takes_the_largest_and_channel_0_is_background() -> None:
    found = segmenter(
        output("One", 1), output("Two", 2), activation="softmax",
        network={"name": "unet-2d", "channels": 3},
    )  # fmt: skip
    logits = np.array([[3.0, 0, 0], [0, 1.0, 4.0], [0, 2.0, 1.0]], np.float32).reshape(3, 1, 3)
    masks = masks_of(logits, found)
    np.testing.assert_array_equal(masks["One"], [[False, False, True]])
    np.testing.assert_array_equal(masks["Two"], [[False, True, False]])


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 2), (0.9, 1), (0.0, 3), (1.0, 0)])
def test_sigmoid_is_compared_with_the_threshold(threshold: float, expected: int) -> None:
    found = segmenter(output("One", threshold=threshold))
    logits = np.array([-5.0, 1.0, 5.0], np.float32).reshape(1, 1, 3)
    assert masks_of(logits, found)["One"].sum() == expected


def test_calibration_shifts_the_logits() -> None:
    found = segmenter(calibration={"temperature": 2.0, "bias": [1.5]})
    logits = np.array([-4.0, -2.0], np.float32).reshape(1, 1, 2)
    np.testing.assert_array_equal(masks_of(logits, found)["Bright"], [[False, True]])


def test_only_the_largest_part_is_kept() -> None:
    logits = np.full((1, 6, 6), -1.0, np.float32)
    logits[0, 0, 0] = logits[0, 3:5, 3:5] = 1.0
    everything = masks_of(logits, segmenter())["Bright"]
    largest = masks_of(logits, segmenter(output("Bright", keep="largest")))["Bright"]
    assert (everything.sum(), largest.sum()) == (5, 4)
    assert not largest[0, 0]
    none = np.full((1, 6, 6), -1.0, np.float32)
    assert not masks_of(none, segmenter(output("Bright", keep="largest")))["Bright"].any()


SOLID = {"unit": "series", "shape": [1, 8, 16, 16], "intensity": "percentile"}
FLAT = {"unit": "series", "shape": [1, 16, 16], "intensity": "percentile"}


@pytest.mark.parametrize("spec", [SOLID, FLAT], ids=["windows", "slices"])
@pytest.mark.parametrize("spacing", [None, [1.0, 1.5, 1.5]])
def test_structure_of_a_series_comes_back_on_its_grid(spec: Any, spacing: Any) -> None:
    truth = ball((14, 40, 36), (6, 18, 22), 5.0)
    volume = Volume(truth.astype(np.float32) * 900 - 100, LPS)
    backend = Echo()
    found = segmenter(input=spec | {"spacing_mm": spacing})
    prediction = segment_volume(package_of(found), backend, volume)
    (segment,) = prediction.segments
    assert segment.mask.shape == truth.shape
    overlap = 2 * (segment.mask & truth).sum() / (segment.mask.sum() + truth.sum())
    assert overlap > (0.99 if spacing is None else 0.85)
    assert segment.volume_ml == pytest.approx(segment.mask.sum() * 0.002)
    pixel_mm2 = float(np.prod(volume.spacing_mm[1:]))
    assert segment.slice_areas_mm2 == pytest.approx(segment.mask.sum(axis=(1, 2)) * pixel_mm2)
    assert backend.shapes == {(1, *spec["shape"])}
    assert prediction.sop_instance_uids == ("",)


@pytest.mark.parametrize("slices", [5, 8, 21])
def test_bands_give_what_windows_over_the_whole_volume_give(slices: int) -> None:
    class Leaning(Echo):
        """Answers otherwise at each place of its window, so that averaging matters."""

        def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
            lean = np.arange(8, dtype=np.float32)[:, None, None] * np.arange(16, dtype=np.float32)
            return (np.stack([batch[:, 0], 0.01 * (batch[:, 0] + lean)], axis=1),)

    found = segmenter(
        output("One", 1), activation="softmax", input=SOLID,
        network={"name": "unet-3d", "channels": 2, "args": {"channels": "4-8"}},
    )  # fmt: skip
    array = np.random.default_rng(3).normal(size=(slices, 20, 30)).astype(np.float32)
    volume = Volume(array, LPS)
    (segment,) = segment_volume(package_of(found), Leaning(), volume).segments
    values = (network_values(volume, found.input) - found.input.mean[0]) / found.input.std[0]
    whole = sliding_window_inference(
        torch.from_numpy(values[np.newaxis, np.newaxis]), (8, 16, 16), 1,
        lambda batch: torch.from_numpy(Leaning().run(batch.numpy())[0]),
        overlap=0.5, mode="gaussian", cval=float(-found.input.mean[0] / found.input.std[0]),
    )[0].numpy()  # fmt: skip
    expected = whole[1] > whole[0]
    assert 0.05 < expected.mean() < 0.95
    # not all: MONAI gives a window's corners a least weight
    assert np.mean(segment.mask != expected) < (0.01 if slices > 8 else 1e-4)


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1)])
def test_network_for_volumes_sees_the_same_whichever_way_it_is_stored(
    flips: tuple[int, int],
) -> None:
    array = np.zeros((10, 20, 24), np.float32)
    array[6:9, 4:9, 5:20] = 1.0
    seen: list[NDArray[np.float32]] = []

    class Looking(Echo):
        def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
            seen.append(batch)
            return super().run(batch)

    found = package_of(segmenter(input=SOLID | {"shape": [1, 16, 32, 32]}))
    reference = segment_volume(found, Looking(), Volume(array, LPS)).segments[0].mask
    turned = array[:: flips[0], :: flips[1]]
    affine = LPS @ np.diag([flips[0], flips[1], 1.0, 1.0])
    mask = segment_volume(found, Looking(), Volume(turned, affine)).segments[0].mask
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-5)
    np.testing.assert_array_equal(mask[:: flips[0], :: flips[1]], reference)


def test_headers_name_the_slices() -> None:
    headers = []
    for number in range(4):
        header = Dataset()
        header.SOPInstanceUID = f"1.2.{number}"
        headers.append(header)
    volume = Volume(np.ones((4, 20, 20), np.float32), LPS, tuple(headers))
    prediction = segment_volume(package_of(segmenter(input=FLAT)), Echo(), volume)
    assert prediction.sop_instance_uids == ("1.2.0", "1.2.1", "1.2.2", "1.2.3")


def test_values_that_are_no_numbers_are_refused() -> None:
    class Broken(Echo):
        def run(self, batch: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
            return (np.full_like(batch, np.nan),)

    volume = Volume(np.ones((4, 20, 20), np.float32), LPS)
    with pytest.raises(BackendError, match="not a number"):
        segment_volume(package_of(segmenter(input=FLAT)), Broken(), volume)
    with pytest.raises(BackendError, match="not a number"):
        segment_image(package_of(segmenter()), Broken(), image_of(np.ones((9, 9), np.float32)))


def test_pictures_and_series_are_not_confused() -> None:
    volume = Volume(np.ones((4, 20, 20), np.float32), LPS)
    with pytest.raises(WrongSourceError):
        run_pipeline(package_of(segmenter()), Echo(), volume)
    picture = image_of(np.ones((9, 9), np.float32))
    with pytest.raises(WrongSourceError):
        run_pipeline(package_of(segmenter(input=FLAT)), Echo(), picture)


def test_grid_keeps_the_outer_faces() -> None:
    spec = InputSpec.model_validate(
        {"color": "gray", "resize": "squash", "mean": [0.0], "std": [1.0]}
        | FLAT | {"spacing_mm": [2.0, 0.5, 0.5]}
    )  # fmt: skip
    array = np.zeros((4, 10, 10), np.float32)
    array[:, :5] = 1.0
    volume = Volume(array, LPS)
    assert network_sides(volume, spec) == (4, 20, 20)
    fine = network_values(volume, spec)
    # the edge lies at the middle row on both grids
    assert fine[0, 9, 10] > 0.5 > fine[0, 10, 10]
    back = on_source_grid(fine > 0.5, array.shape)
    np.testing.assert_array_equal(back, array > 0.5)


def test_window_of_the_header_or_percentiles_set_the_range() -> None:
    shown = InputSpec.model_validate(
        {"color": "gray", "resize": "squash", "mean": [0.0], "std": [1.0]}
        | FLAT | {"intensity": "display"}
    )  # fmt: skip
    header = Dataset()
    header.WindowCenter, header.WindowWidth = ["40.5", "7"], ["401", "9"]
    array = np.linspace(-1000, 1000, 300, dtype=np.float32).reshape(3, 10, 10)
    assert value_range(Volume(array, LPS, (header,) * 3), shown) == (-160.0, 240.0)
    low, high = value_range(Volume(array, LPS, (Dataset(),) * 3), shown)
    assert (low, high) == pytest.approx((-990.0, 990.0), abs=1.0)
    flat = Volume(np.full((3, 10, 10), 7, np.float32), LPS)
    assert not network_values(flat, shown).any()


TRAINED = {
    "unet-2d": ([1, 32, 48], {"features": "4-4-4-8-8-4"}),
    "unet-3d": ([1, 16, 16, 24], {"channels": "4-8-16"}),
    "mobilenetv2-unet": ([3, 32, 64], {"padding": "same"}),
    "segformer-b0": ([3, 64, 32], {}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_network_trains_converts_and_serves(name: str, tmp_path: Path) -> None:
    shape, args = TRAINED[name]
    spec = {"shape": shape, "color": "gray", "resize": "squash", "mean": [0.5], "std": [0.5]}
    if len(shape) == 4:
        spec["unit"] = "series"
    data = manifest_data(
        pipeline="segmentation", input=spec, explain=None, calibration={}, activation="softmax",
        network={"name": name, "channels": 3, "args": args},
        outputs=[output("One", 1), output("Two", 2)],
    )  # fmt: skip
    found = Manifest.model_validate(data)
    torch.manual_seed(0)
    network = build_manifest_network(found)
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    batch = torch.rand(2, *shape)
    target = (batch[:, 0] > 0.5).long()
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4)
    losses = []
    for _ in range(5):
        logits = network(batch)
        assert logits.shape == (2, 3, *shape[1:])
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    folder = tmp_path / "toy"
    folder.mkdir()
    data["weights"]["sha256"] = save_weights(network, folder / "weights.safetensors")
    (folder / "manifest.yaml").write_text(yaml.safe_dump(data))
    package = load_model(folder)
    expected, actual = (
        engine(package, InferenceConfig()).run(batch.numpy())[0]
        for engine in (TorchBackend, OpenVinoBackend)
    )
    np.testing.assert_allclose(actual, expected, atol=1e-3 * max(1.0, np.abs(expected).max()))


def test_facts_are_optional_for_pictures() -> None:
    plain = InstanceFacts("", "", "", "", "")
    image = SourceImage.of(np.ones((40, 40), np.float32), plain, None)
    assert segment_image(package_of(segmenter()), Echo(), image).sop_instance_uids == ("",)


def test_too_small_input_is_refused() -> None:
    spec = InputSpec.model_validate(
        {"shape": [1, 16, 16], "color": "gray", "resize": "squash", "mean": [0.5], "std": [0.5]}
    )
    with pytest.raises(Exception, match="at least 32"):
        build_network(NetworkRef(name="unet-2d", channels=1), spec, "x")
