"""Where a finding lies: the hot part of its heatmap, or the whole image. Pure."""

from __future__ import annotations

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray

HOT = 0.5
"""Share of the heatmap's maximum scale from which a place counts as hot."""

MAX_POINTS = 128
"""Points of an outline at most; viewers draw them all."""

Outline = NDArray[np.float32]
"""[points, 2]: column and row of each point, in pixels from the top left corner of the image's top
left pixel (PS3.3 section C.18.6.1.1); the last point equals the first."""


def whole_image(rows: int, columns: int) -> Outline:
    """Return the frame of the image."""
    return rectangle(0, 0, columns, rows)


def rectangle(x_min: float, y_min: float, x_max: float, y_max: float) -> Outline:
    """Return the frame of a box."""
    corners = [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max), (x_min, y_min)]
    return np.array(corners, dtype=np.float32)


def hot_outline(heatmap: NDArray[np.float32], level: float = HOT) -> Outline | None:
    """Return the outline of the largest connected hot region, or None if nothing is hot.

    Parameters
    ----------
    heatmap
        [rows, columns] in [0, 1].
    level
        From which value on a place is hot.
    """
    rows, columns = heatmap.shape
    if float(heatmap.max()) < level:
        return None
    step = max(1, max(rows, columns) // 512)
    coarse = np.pad(heatmap[::step, ::step], 1)
    lines = contour_generator(z=coarse, line_type=LineType.Separate).lines(level)
    if not lines:
        return None
    largest = max((np.asarray(line, dtype=np.float64) for line in lines), key=_area)
    outline = (_thin(largest) - 1.0) * step + 0.5  # drop the padding; pixel centres lie at .5
    outline = np.clip(outline, 0, [columns, rows])
    return None if _area(outline) <= 0 else outline.astype(np.float32)


def _thin(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep every n-th point, so that no more than `MAX_POINTS` remain, and close the line."""
    if len(outline) <= MAX_POINTS:
        return outline
    keep = np.linspace(0, len(outline) - 1, MAX_POINTS).astype(int)
    return outline[keep]


def _area(outline: NDArray[np.float64]) -> float:
    """Area within a closed outline, by the shoelace formula."""
    x, y = outline[:, 0], outline[:, 1]
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
