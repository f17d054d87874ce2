"""What a picture looks like, in few numbers: the input of the gate of ``inference.gate``.

The numbers don't depend on the picture's size and hardly on its brightness. They are the same for
every model, so one description serves all of them. numpy, scipy and Pillow only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inference.preprocessing import LUMA

SIDE = 64
"""Rows and columns of the reduced picture that most numbers are taken from."""
DETAIL_SIDE = 192
"""Rows and columns of the one that sharpness is taken from."""
ORIENTATIONS = 8
CELLS = 4
MINIMUM_DEVIATION = 0.02
"""Pictures with less contrast are treated as if they had this much; white is 1."""


class Block(NamedTuple):
    """Some numbers of one kind within a description."""

    size: int
    floor: float
    """A deviation that says nothing, in the block's own unit."""


BLOCKS = {
    "thumbnail": Block(256, 0.15),
    "chroma": Block(128, 0.02),
    "tones": Block(13, 0.1),
    "bands": Block(4, 0.15),
    "edges": Block(CELLS * CELLS * ORIENTATIONS, 0.15),
    "border": Block(8, 0.05),
    "symmetry": Block(3, 0.1),
}
SIZE = sum(block.size for block in BLOCKS.values())

Plane = NDArray[np.float32]
_WHITE, _BLACK = np.float32(253.5 / 255.0), np.float32(1.5 / 255.0)
_EDGE = 2
_DARK, _BRIGHT = 0.04, 0.96


class Measures(NamedTuple):
    """Technical quality of a picture.

    Attributes
    ----------
    contrast
        Standard deviation of the reduced picture; white is 1.
    black, white
        Share of pixels at the lowest and the highest display value.
    sharpness
        Logarithm (base 10) of fine over coarse detail at `DETAIL_SIDE` pixels: about 0 for a sharp
        picture, lower for a blurred one.
    """

    contrast: float
    black: float
    white: float
    sharpness: float


def measure(array: Plane) -> Measures:
    """Measure the technical quality of display values, [rows, columns] or [rows, columns, 3]."""
    gray = luminance(array)
    plane = _resized(gray, DETAIL_SIDE)
    once, twice = (ndimage.gaussian_filter(plane, sigma) for sigma in (1.0, 2.0))
    fine, coarse = (float(np.std(part)) + 1e-4 for part in (plane - once, once - twice))
    return Measures(
        contrast=float(np.std(_resized(gray, SIDE))),
        black=float(np.mean(gray <= _BLACK)),
        white=float(np.mean(gray >= _WHITE)),
        sharpness=float(np.log10(fine / coarse)),
    )


def describe(array: Plane) -> Plane:
    """Describe display values, [rows, columns] or RGB [rows, columns, 3] in [0, 1].

    Returns
    -------
    NDArray[np.float32]
        [SIZE], the blocks of `BLOCKS` one after the other.
    """
    gray = luminance(array)
    plane = _resized(gray, SIDE)
    mean = float(plane.mean())
    deviation = max(float(plane.std()), MINIMUM_DEVIATION)
    normal = (plane - mean) / deviation
    parts = (
        _cell_means(normal, 16),
        _chroma(array, gray),
        np.quantile(normal, np.linspace(0.02, 0.98, BLOCKS["tones"].size)),
        _bands(plane, deviation),
        _edges(normal),
        _border(plane, mean, deviation),
        _symmetry(normal),
    )
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)


def floors() -> Plane:
    """Return the floor of every number's deviation, [SIZE]."""
    return _per_number([block.floor for block in BLOCKS.values()])


def block_weights() -> Plane:
    """Return the factor that makes blocks count alike, however many numbers they have, [SIZE]."""
    return _per_number([float(block.size) ** -0.5 for block in BLOCKS.values()])


def luminance(array: Plane) -> Plane:
    """Return display values without colour, [rows, columns]."""
    return array @ LUMA if array.ndim == 3 else array


def _per_number(values: list[float]) -> Plane:
    return np.repeat(values, [block.size for block in BLOCKS.values()]).astype(np.float32)


def _resized(plane: Plane, side: int) -> Plane:
    """Reduce to a square by averaging; smaller pictures are enlarged bilinearly."""
    is_reduced = min(plane.shape) >= side
    method = Image.Resampling.BOX if is_reduced else Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((side, side), method), np.float32)


def _cell_means(plane: Plane, cells: int) -> Plane:
    """Average a square plane in cells x cells squares."""
    width = plane.shape[0] // cells
    return plane.reshape(cells, width, cells, width).mean(axis=(1, 3), dtype=np.float32)


def _chroma(array: Plane, gray: Plane) -> Plane:
    """Red against green and blue against grey, 8 x 8 each; zero for grey pictures."""
    if array.ndim == 2:
        return np.zeros(BLOCKS["chroma"].size, np.float32)
    red_green, blue = array[..., 0] - array[..., 1], array[..., 2] - gray
    return np.stack([_resized(red_green, 8), _resized(blue, 8)])


def _bands(plane: Plane, deviation: float) -> Plane:
    """Logarithms of the detail between one scale and the next, against the whole contrast."""
    shares, finer = [], plane
    for sigma in (1.0, 2.0, 4.0, 8.0):
        coarser = ndimage.gaussian_filter(plane, sigma)
        shares.append(float(np.std(finer - coarser)) / deviation)
        finer = coarser
    return np.log(np.array(shares, np.float32) + np.float32(0.01))


def _edges(normal: Plane) -> Plane:
    """Edges by direction in 4 x 4 cells, as the root of their share."""
    smooth = ndimage.gaussian_filter(normal, 0.7)
    down, across = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
    strength = np.hypot(down, across)
    position = (np.arctan2(down, across) % np.pi) / np.pi * ORIENTATIONS
    lower = np.floor(position)
    share = position - lower
    bins = lower.astype(np.int64) % ORIENTATIONS
    cells = [
        _cell_means(
            strength
            * np.where(
                bins == number, 1.0 - share, (bins == (number - 1) % ORIENTATIONS) * share
            ).astype(np.float32),
            CELLS,
        )
        for number in range(ORIENTATIONS)
    ]
    histogram = np.stack(cells, axis=-1)
    return np.sqrt(histogram / (histogram.mean() + np.float32(1e-3)))


def _border(plane: Plane, mean: float, deviation: float) -> Plane:
    """The outer frame, dark and bright shares, brightness and contrast."""
    frame = np.ones(plane.shape, np.bool_)
    frame[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
    edge = plane[frame]
    values = [edge.mean(), edge.std(), (edge < _DARK).mean(), (edge > _BRIGHT).mean()]
    values += [(plane < _DARK).mean(), (plane > _BRIGHT).mean(), mean, deviation]
    return np.array(values, np.float32)


def _symmetry(normal: Plane) -> Plane:
    """Correlation with the picture mirrored left-right, upside down and along the diagonal."""
    turned = (normal[:, ::-1], normal[::-1], normal.T)
    return np.array([float((normal * other).mean()) for other in turned], np.float32)
