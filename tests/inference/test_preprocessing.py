from __future__ import annotations

import numpy as np
import pytest

from inference.manifest import InputSpec
from inference.preprocessing import normalise, place, prepare, to_canvas


def spec(**changes: object) -> InputSpec:
    values: dict[str, object] = {
        "shape": (3, 64, 64),
        "color": "gray",
        "resize": "squash",
        "mean": (0.5,),
        "std": (0.25,),
    }
    return InputSpec.model_validate(values | changes)


def test_values_are_normalised_and_repeated_over_the_channels() -> None:
    tensor = prepare(np.full((100, 80), 0.75, np.float32), spec())
    assert tensor.shape == (3, 64, 64)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, 1.0)


def test_each_channel_has_its_own_mean() -> None:
    image = np.full((8, 8), 0.5, np.float32)
    tensor = prepare(image, spec(mean=(0.5, 0.4, 0.3), std=(1.0, 0.1, 0.2)))
    np.testing.assert_allclose(tensor[:, 0, 0], [0, 1, 1], atol=1e-6)


def test_colour_is_reduced_to_luminance() -> None:
    red = np.zeros((64, 64, 3), np.float32)
    red[..., 0] = 1
    np.testing.assert_allclose(to_canvas(red, spec()), 0.299, atol=1e-6)


def test_gray_stored_as_rgb_is_the_same_image() -> None:
    gray = np.random.default_rng(0).random((90, 70), np.float32)
    rgb = np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    np.testing.assert_allclose(prepare(rgb, spec()), prepare(gray, spec()), atol=1e-5)
    color = spec(color="rgb")
    np.testing.assert_allclose(prepare(gray, color), prepare(rgb, color), atol=1e-6)


def test_rgb_keeps_the_order_of_its_channels() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    image[..., 2] = 1
    tensor = prepare(image, spec(color="rgb", mean=(0.0,), std=(1.0,)))
    np.testing.assert_array_equal(tensor[:, 5, 5], [0, 0, 1])


def test_large_image_is_averaged_and_not_sampled() -> None:
    stripes = np.zeros((2048, 2048), np.float32)
    stripes[:, ::2] = 1  # sampling would give 0 or 1
    canvas = to_canvas(stripes, spec())
    np.testing.assert_allclose(canvas[2:-2, 2:-2], 0.5, atol=0.02)


def test_squash_ignores_the_aspect_ratio() -> None:
    assert to_canvas(np.ones((200, 50), np.float32), spec()).min() == 1


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(100, 50, (0, 16, 64, 32)), (50, 100, (16, 0, 32, 64)), (7, 7, (0, 0, 64, 64))],
)
def test_letterbox_keeps_it_and_fills_with_black(
    rows: int, columns: int, expected: tuple[int, ...]
) -> None:
    letterbox = spec(resize="letterbox")
    position = place(rows, columns, letterbox)
    assert (position.top, position.left, position.height, position.width) == expected
    canvas = to_canvas(np.ones((rows, columns), np.float32), letterbox)
    assert canvas.shape == (64, 64)
    assert canvas.sum() == position.height * position.width


def test_very_long_image_keeps_one_row() -> None:
    position = place(3, 4000, spec(resize="letterbox"))
    assert (position.height, position.width) == (1, 64)


def test_letterbox_of_colour() -> None:
    image = np.ones((40, 80, 3), np.float32)
    canvas = to_canvas(image, spec(resize="letterbox", color="rgb"))
    assert canvas.shape == (64, 64, 3)
    assert normalise(canvas, spec(color="rgb")).shape == (3, 64, 64)


def test_one_channel_network() -> None:
    assert prepare(np.ones((9, 9), np.float32), spec(shape=(1, 32, 48))).shape == (1, 32, 48)
