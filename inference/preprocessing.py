"""From display values to a network's input: the one implementation for training and serving.

numpy and Pillow only: a process that serves from a converted model never loads torch, and training
calls the same functions, so that both see identical numbers. Pillow's bilinear filter widens with
the reduction (it averages over all source pixels), so large radiographs don't alias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.manifest import InputSpec

# ITU-R BT.601 luma, as in PS3.3 C.7.6.3.1.2 (YBR_FULL): Y = .2990 R + .5870 G + .1140 B
LUMA = np.array([0.2990, 0.5870, 0.1140], np.float32)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the image lies on the network's canvas, in canvas pixels."""

    top: int
    left: int
    height: int
    width: int


def place(rows: int, columns: int, spec: InputSpec) -> Placement:
    """Return where an image of `rows` x `columns` lies on the canvas of `spec`."""
    _, height, width = spec.shape
    if spec.resize == "squash":
        return Placement(0, 0, height, width)
    scale = min(height / rows, width / columns)
    inner_height = max(1, min(height, round(rows * scale)))
    inner_width = max(1, min(width, round(columns * scale)))
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return Placement(top, left, inner_height, inner_width)


def to_canvas(array: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Reduce the colours and resize; values stay in [0, 1]. Augmentation belongs after this step.

    Parameters
    ----------
    array
        [rows, columns] or [rows, columns, 3], display values in [0, 1], 0 = black.

    Returns
    -------
    NDArray[np.float32]
        [H, W] for ``color: gray``, [H, W, 3] for ``color: rgb``.
    """
    _, height, width = spec.shape
    position = place(array.shape[0], array.shape[1], spec)
    if array.ndim == 3 and spec.color == "gray":
        array = array @ LUMA
    size = (position.width, position.height)
    if array.ndim == 2:
        inner = resize_plane(array, size)
        if spec.color == "rgb":
            inner = np.repeat(inner[:, :, np.newaxis], 3, axis=2)
    else:
        planes = [resize_plane(array[:, :, channel], size) for channel in range(3)]
        inner = np.stack(planes, axis=2)
    if (position.height, position.width) == (height, width):
        return inner
    canvas = np.zeros((height, width, *inner.shape[2:]), np.float32)
    bottom, right = position.top + position.height, position.left + position.width
    canvas[position.top : bottom, position.left : right] = inner
    return canvas


def normalise(canvas: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Turn a canvas of :func:`to_canvas` into the input tensor, float32 [C, H, W]."""
    channels = spec.shape[0]
    planes = canvas[np.newaxis] if canvas.ndim == 2 else canvas.transpose(2, 0, 1)
    mean = np.asarray(spec.mean, np.float32).reshape(-1, 1, 1)
    std = np.asarray(spec.std, np.float32).reshape(-1, 1, 1)
    tensor = (planes - mean) / std
    return np.ascontiguousarray(np.broadcast_to(tensor, (channels, *canvas.shape[:2])))


def prepare(array: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Return the input tensor, float32 [C, H, W], of an image in display values.

    Parameters
    ----------
    array
        [rows, columns] or [rows, columns, 3] in [0, 1], as ``SourceImage.array``.
    """
    return normalise(to_canvas(array, spec), spec)


def resize_plane(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize [rows, columns] bilinearly to `size` = (columns, rows), averaging when reducing."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
