"""Boxes and outlined regions drawn over an image, in colours that everybody can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_erosion

from ledger.domain import Box, Segment

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

FILL = 0.25
"""Share of colour inside a region: anatomy stays visible."""

# Okabe and Ito's colours, distinct with every colour vision deficiency
_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)


def colour_of(index: int) -> Colour:
    """Return the colour of the n-th label of a model, from 0."""
    return _COLOURS[index % len(_COLOURS)]


def colours_of(segments: Sequence[Segment]) -> list[Colour]:
    """Return the colour of each segment: its own, or the one of its place."""
    return [segment.kind.color or colour_of(index) for index, segment in enumerate(segments)]


def draw_regions(
    image: Picture, masks: Sequence[NDArray[np.bool_]], colours: Sequence[Colour]
) -> None:
    """Colour regions in place and draw their edges.

    Parameters
    ----------
    image
        uint8 [rows, columns, 3].
    masks
        [rows, columns] each.
    colours
        One for each mask.
    """
    width = max(1, round(max(image.shape[:2]) / 700))
    for mask, chosen in zip(masks, colours, strict=True):
        if not mask.any():
            continue
        colour = np.array(chosen, np.float32)
        inside = image[mask].astype(np.float32)
        image[mask] = np.rint(inside + FILL * (colour - inside)).astype(np.uint8)
        edge = mask & ~binary_erosion(mask, iterations=width)
        image[edge] = colour.astype(np.uint8)


def draw_boxes(image: Picture, boxes: Sequence[Box], labels: Sequence[str]) -> None:
    """Draw boxes in place; `labels` gives each label its colour by its position."""
    drawing = Image.fromarray(image)
    pen = ImageDraw.Draw(drawing)
    width = max(1, round(max(image.shape[:2]) / 300))
    for box in boxes:
        corners = (round(box.x_min), round(box.y_min), round(box.x_max) - 1, round(box.y_max) - 1)
        left, top, right, bottom = corners
        if right > left and bottom > top:
            pen.rectangle(corners, outline=colour_of(labels.index(box.label)), width=width)
    image[:] = np.asarray(drawing)
