"""Boxes as arrays [N, 4] of x_min, y_min, x_max, y_max; numpy alone, as serving needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.manifest import InputSpec
from inference.preprocessing import place

Boxes = NDArray[np.float64]

SAME_OBJECT_IOU = 0.5
"""Boxes that overlap more are one object, and the best of them is kept."""
VOTING_IOU = 0.7
"""Boxes that overlap so much vote on where the object's edges are."""
MOST_BOXES = 20
"""Of one class on one image."""


def iou(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    """Return intersection over union of each pair, [N, M]."""
    low = np.maximum(one[:, np.newaxis, :2], other[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:], other[np.newaxis, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    joined = _area(one)[:, np.newaxis] + _area(other)[np.newaxis, :] - shared
    return np.divide(shared, joined, out=np.zeros_like(shared), where=joined > 0)


def best_of_each(
    boxes: Boxes, scores: NDArray[np.float64]
) -> tuple[Boxes, NDArray[np.float64], NDArray[np.intp]]:
    """Return one box for each object, best first: non-maximum suppression with box voting.

    Each kept box becomes the mean of itself and of the boxes that nearly agree with it, weighed by
    their scores, which is steadier than the best one alone.

    Parameters
    ----------
    boxes
        [N, 4].
    scores
        [N], in (0, 1].

    Returns
    -------
    tuple
        Boxes [M, 4], their scores [M] and the rows [M] that they come from.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    voted: list[Boxes] = []
    while left.size and len(kept) < MOST_BOXES:
        best = left[0]
        overlap = iou(boxes[best : best + 1], boxes[left])[0]
        agreeing = left[overlap >= VOTING_IOU]
        kept.append(best)
        voted.append(np.average(boxes[agreeing], axis=0, weights=scores[agreeing]))
        left = left[overlap <= SAME_OBJECT_IOU]
    rows = np.array(kept, np.intp)
    return np.array(voted, np.float64).reshape(-1, 4), scores[rows], rows


def to_source(boxes: Boxes, rows: int, columns: int, spec: InputSpec) -> Boxes:
    """Move boxes from the network's canvas to the source image, cut at its edges.

    Parameters
    ----------
    boxes
        [N, 4] in canvas pixels.
    rows, columns
        Size of the source image.
    spec
        How the image was put on the canvas.
    """
    position = place(rows, columns, spec)
    corner = np.array([position.left, position.top] * 2, np.float64)
    scale = np.array([columns / position.width, rows / position.height] * 2)
    return np.clip((boxes - corner) * scale, 0.0, [columns, rows] * 2)


def to_canvas(boxes: Boxes, rows: int, columns: int, spec: InputSpec) -> Boxes:
    """Move boxes from the source image to the network's canvas; see :func:`to_source`."""
    position = place(rows, columns, spec)
    corner = np.array([position.left, position.top] * 2, np.float64)
    scale = np.array([position.width / columns, position.height / rows] * 2)
    return boxes * scale + corner


def _area(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1))
