"""Lesions put into pictures that have none: borrowed from other pictures, or drawn.

Few pictures have boxes and many show nothing, so a detector sees most of its objects this way. All
canvases are [H, W] in [0, 1], boxes [M, 4] in canvas pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.boxes import Boxes

Canvas = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMALLEST_PX = 8.0
"""Side of a lesion that can be borrowed, and radius of one that is drawn, at 256 pixels."""
LARGEST_PX = 52.0
LEAST_TISSUE = 500
"""Pixels; pictures with less show too little to put something into."""


def tissue_of(canvas: Canvas) -> Mask:
    """Return the inside of the largest bright thing, well away from its edge."""
    scale = canvas.shape[0] / 256
    limit = max(0.06, 0.6 * float(np.percentile(canvas, 60)))
    bright = ndimage.binary_opening(canvas > limit, iterations=max(1, round(2 * scale)))
    labels, count = ndimage.label(ndimage.binary_fill_holes(bright))
    if not count:
        return np.zeros(canvas.shape, np.bool_)
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    margin = max(1, round(18 * scale))
    return np.asarray(ndimage.binary_erosion(labels == largest, iterations=margin))


def borrow_lesion(
    generator: np.random.Generator, canvas: Canvas, tissue: Mask, donor: Canvas, box: Boxes
) -> tuple[Canvas, Boxes]:
    """Copy the ellipse in a donor's box, turned, resized and with a soft edge, to any place.

    Parameters
    ----------
    canvas, tissue
        The picture and where in it a lesion may lie.
    donor, box
        Another picture and one of its boxes, [4].
    """
    width, height = box[2] - box[0], box[3] - box[1]
    places = np.argwhere(tissue)
    if len(places) < LEAST_TISSUE or min(width, height) < SMALLEST_PX * canvas.shape[0] / 256:
        return canvas, np.empty((0, 4))
    row, column = places[generator.integers(len(places))]
    size, angle = generator.uniform(0.7, 1.4), generator.uniform(0.0, 2.0 * math.pi)
    mirror = generator.choice((-1.0, 1.0))
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]].astype(np.float32)
    dx, dy = x - column, y - row
    u = mirror * (dx * math.cos(angle) + dy * math.sin(angle)) / size
    v = (dy * math.cos(angle) - dx * math.sin(angle)) / size
    middle = [v + (box[1] + box[3]) / 2 - 0.5, u + (box[0] + box[2]) / 2 - 0.5]
    copied = ndimage.map_coordinates(donor, middle, order=1, mode="constant")
    away = (2 * u / width) ** 2 + (2 * v / height) ** 2
    share = np.clip((1.1 - away) / 0.25, 0.0, 1.0)
    mixed = canvas * (1.0 - share) + copied * share * generator.uniform(0.85, 1.15)
    reach_x = size * math.hypot(width / 2 * math.cos(angle), height / 2 * math.sin(angle))
    reach_y = size * math.hypot(width / 2 * math.sin(angle), height / 2 * math.cos(angle))
    x_middle, y_middle = column + 0.5, row + 0.5
    found = [x_middle - reach_x, y_middle - reach_y, x_middle + reach_x, y_middle + reach_y]
    return np.clip(mixed, 0.0, 1.0).astype(np.float32), np.array([found])


def draw_lesion(
    generator: np.random.Generator, canvas: Canvas, tissue: Mask
) -> tuple[Canvas, Boxes]:
    """Paint a lobed lesion: bright, dark, or a bright rim round a dark core; often with a halo."""
    scale = canvas.shape[0] / 256
    places = np.argwhere(tissue)
    if len(places) < LEAST_TISSUE:
        return canvas, np.empty((0, 4))
    middle = places[generator.integers(len(places))]
    low, high = math.log(SMALLEST_PX * scale), math.log(LARGEST_PX * scale)
    depth = _depth(generator, canvas.shape[0], middle, math.exp(generator.uniform(low, high)))
    head = ndimage.binary_dilation(tissue, iterations=round(generator.integers(6, 16) * scale))
    is_inside = (depth < 1.0) & head
    if is_inside.sum() < 60 * scale**2:
        return canvas, np.empty((0, 4))
    painted = canvas
    if generator.random() < 0.5:
        painted = canvas + _halo(generator, depth, head)
    value = _filling(generator, depth, float(np.median(canvas[tissue])))
    soft = ndimage.gaussian_filter(is_inside.astype(np.float32), generator.uniform(0.7, 2.2))
    share = soft * generator.uniform(0.75, 1.0)
    mixed = np.clip(painted * (1.0 - share) + value * share, 0.0, 1.0).astype(np.float32)
    rows, columns = np.nonzero(is_inside)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return mixed, np.array([edges], np.float64)


def _depth(
    generator: np.random.Generator, side: int, middle: NDArray[np.intp], radius: float
) -> Canvas:
    """Return the distance from the middle as a share of the lobed edge's distance."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    dy, dx = y - middle[0], x - middle[1]
    turn = generator.uniform(0.0, math.pi)
    flat = generator.uniform(0.65, 1.0)
    along = dx * math.cos(turn) + dy * math.sin(turn)
    across = (dy * math.cos(turn) - dx * math.sin(turn)) / flat
    angle = np.arctan2(dy, dx)
    edge = np.ones_like(angle)
    for lobes in range(2, 7):
        phase = generator.uniform(0.0, 2.0 * math.pi)
        edge += generator.normal(0.0, 0.22 / lobes) * np.cos(lobes * angle + phase)
    edge += generator.uniform(0.0, 0.08) * _texture(generator, side, 4.0)
    return np.asarray(np.hypot(along, across) / (radius * np.maximum(edge, 0.3)), np.float32)


def _filling(generator: np.random.Generator, depth: Canvas, around: float) -> Canvas:
    """Return grey values of the lesion; `around` is that of the tissue."""
    kind = generator.random()
    if kind < 0.45:
        value = np.full_like(depth, min(1.0, around + generator.uniform(0.12, 0.6)))
    elif kind < 0.6:
        value = np.full_like(depth, max(0.0, around - generator.uniform(0.1, 0.5)))
    else:
        rim = np.clip((depth - 1.0 + generator.uniform(0.1, 0.4)) / 0.06, 0.0, 1.0)
        bright = min(1.0, around + generator.uniform(0.15, 0.6))
        core = max(0.0, around + generator.uniform(-0.35, 0.1))
        value = rim * bright + (1.0 - rim) * core
    grain = _texture(generator, len(depth), generator.uniform(1.0, 5.0))
    return np.asarray(value + grain * generator.uniform(0.01, 0.1), np.float32)


def _halo(generator: np.random.Generator, depth: Canvas, head: Mask) -> Canvas:
    """Return a change of grey round the lesion, as oedema makes it."""
    fading = np.clip(1.6 - depth * generator.uniform(0.6, 0.9), 0.0, 1.0) * head
    soft = ndimage.gaussian_filter(fading.astype(np.float32), 4.0)
    grain = 1.0 + 0.3 * _texture(generator, len(depth), 6.0)
    return np.asarray(soft * generator.uniform(-0.15, 0.12) * grain, np.float32)


def _texture(generator: np.random.Generator, side: int, width: float) -> Canvas:
    """Return smooth noise of standard deviation 1."""
    noise = ndimage.gaussian_filter(generator.standard_normal((side, side)), width)
    return np.asarray(noise / (noise.std() + 1e-6), np.float32)
