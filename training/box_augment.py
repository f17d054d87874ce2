"""Random changes of a canvas together with its boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.boxes import Boxes
from training.augment import build_augment
from training.recipe import AugmentSpec

Canvas = NDArray[np.float32]
BoxAugment = Callable[[Canvas, Boxes], tuple[Canvas, Boxes]]

UPSIDE_DOWN = 0.25
"""Probability of a vertical mirror image with ``flip: both``: rarer, as pictures stand upright."""
SMALLEST_PX = 3.0
"""Boxes that are cut down to less are dropped."""


def build_box_augment(spec: AugmentSpec, height: int, width: int, seed: int) -> BoxAugment:
    """Return a function that gives a changed canvas [height, width] and its boxes.

    It takes canvases of any size: geometry and resizing are one interpolation. One seed gives one
    sequence of changes.
    """
    generator = np.random.default_rng(seed)
    still = {"rotate_degrees": 0.0, "scale": 0.0, "shift": 0.0, "flip": "none"}
    shade = build_augment(spec.model_copy(update=still), height, width, seed)

    def augment(canvas: Canvas, boxes: Boxes) -> tuple[Canvas, Boxes]:
        matrix, middle = _geometry(generator, spec, canvas.shape[:2], (height, width))
        changed = _resample(canvas, matrix, middle, height, width)
        return shade(changed), _move(boxes, matrix, middle, height, width)

    return augment


def _geometry(
    generator: np.random.Generator,
    spec: AugmentSpec,
    source: tuple[int, ...],
    target: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix from target to source offsets (x, y), and the source's new middle."""
    angle = math.radians(generator.uniform(-spec.rotate_degrees, spec.rotate_degrees))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    most = math.log(1.0 + spec.scale)
    zoom, squeeze = generator.uniform(-most, most), generator.uniform(-most, most) / 3
    sides = np.array([source[1] / target[1], source[0] / target[0]])
    sizes = sides * np.exp([zoom + squeeze, zoom - squeeze])
    mirrored = spec.flip != "none" and generator.random() < 0.5
    inverted = spec.flip == "both" and generator.random() < UPSIDE_DOWN
    signs = np.array([-1.0 if mirrored else 1.0, -1.0 if inverted else 1.0])
    shift = generator.uniform(-spec.shift, spec.shift, 2)
    middle = np.array([source[1], source[0]]) * (0.5 + shift)
    return turn @ np.diag(sizes * signs), middle


def _resample(
    canvas: Canvas,
    matrix: NDArray[np.float64],
    middle: NDArray[np.float64],
    height: int,
    width: int,
) -> Canvas:
    y, x = np.mgrid[:height, :width] + 0.5
    dx, dy = x - width / 2, y - height / 2
    columns = matrix[0, 0] * dx + matrix[0, 1] * dy + middle[0] - 0.5
    rows = matrix[1, 0] * dx + matrix[1, 1] * dy + middle[1] - 0.5
    planes = canvas[..., np.newaxis] if canvas.ndim == 2 else canvas
    moved = [
        ndimage.map_coordinates(planes[..., plane], [rows, columns], order=1, mode="constant")
        for plane in range(planes.shape[-1])
    ]
    return moved[0] if canvas.ndim == 2 else np.stack(moved, axis=-1)


def _move(
    boxes: Boxes, matrix: NDArray[np.float64], middle: NDArray[np.float64], height: int, width: int
) -> Boxes:
    back = np.linalg.inv(matrix)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    centre = (centre - middle) @ back.T + [width / 2, height / 2]
    half = np.sqrt(half**2 @ (back**2).T)  # of the ellipse in the box: most objects are round
    moved = np.concatenate([centre - half, centre + half], axis=1)
    moved = np.clip(moved, 0.0, [width, height] * 2)
    return moved[(moved[:, 2:] - moved[:, :2] >= SMALLEST_PX).all(axis=1)]
