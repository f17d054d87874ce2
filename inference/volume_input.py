"""From a volume to the values that a network sees, and masks back: for training too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.display_values import PERCENTILES, window_of
from inference.manifest import InputSpec
from inference.volume import Volume, Voxels, check_voxels

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
Sides = Sequence[int]
Number = TypeVar("Number", np.float32, np.uint8)
Real = TypeVar("Real", np.float16, np.float32)


def network_values(volume: Volume, spec: InputSpec) -> Values:
    """Return a volume in [0, 1] on the network's grid, float32 [slices, rows, columns]."""
    return scaled(at_network_spacing(volume, spec), *value_range(volume, spec))


def at_network_spacing(volume: Volume, spec: InputSpec) -> Voxels:
    """Return a volume's values on the network's grid; they are its own where the grid is.

    Raises
    ------
    VolumeTooLargeError
        The grid has too many voxels, because the network wants much smaller ones than there are.
    """
    sides = network_sides(volume, spec)
    if sides == volume.array.shape:
        return volume.array
    check_voxels(int(np.prod(sides)))
    return _zoomed(volume.array, sides, np.float32, order=1)


def seen_slices(planes: Iterable[NDArray[Real]], spec: InputSpec) -> Iterator[NDArray[Real]]:
    """Yield what a network that sees slices is given of a volume in [0, 1], slice by slice.

    [rows, columns], or with ``neighbours`` [3, rows, columns]: the first and the last slice are
    their own neighbours. No more than three slices are in memory.
    """
    if not spec.neighbours:
        yield from planes
        return
    above: NDArray[Real] | None = None
    here: NDArray[Real] | None = None
    for below in planes:
        if above is not None and here is not None:
            yield np.stack([above, here, below])
        above, here = below if here is None else here, below
    if above is not None and here is not None:
        yield np.stack([above, here, here])


def network_sides(volume: Volume, spec: InputSpec) -> tuple[int, ...]:
    """Return how many slices, rows and columns a volume has at the network's voxel size."""
    if spec.spacing_mm is None:
        return volume.array.shape
    pairs = zip(volume.array.shape, volume.spacing_mm, spec.spacing_mm, strict=True)
    return tuple(max(1, round(side * own / wanted)) for side, own, wanted in pairs)


def value_range(volume: Volume, spec: InputSpec) -> tuple[float, float]:
    """Return which values become 0 and 1.

    ``percentile``: 0.5 % and 99.5 % of the voxels. ``display``: the window of the middle slice, or
    the percentiles if it has none.
    """
    header = volume.slice_header(len(volume.array) // 2)
    window = None if header is None else window_of(header)
    if spec.intensity == "display" and window is not None:
        return window.ends
    return volume.percentiles(*PERCENTILES)


def on_network_grid(mask: NDArray[np.uint8], sides: Sides) -> NDArray[np.uint8]:
    """Resample values that name structures: each voxel takes the nearest one's."""
    if mask.shape == tuple(sides):
        return mask
    return _zoomed(mask, sides, np.uint8, order=0)


def on_source_grid(mask: Mask, sides: Sides) -> Mask:
    """Resample a mask; its surface is interpolated, so that it has no larger steps than before."""
    if mask.shape == tuple(sides):
        return mask
    shares = _zoomed(mask.astype(np.uint8) * np.uint8(255), sides, np.uint8, order=1)
    return shares >= 128


def _zoomed(
    array: Voxels | NDArray[np.uint8], sides: Sides, kind: type[Number], *, order: int
) -> NDArray[Number]:
    """Resample so that the outer faces of the block stay where they are."""
    factors = [new / old for new, old in zip(sides, array.shape, strict=True)]
    zoomed: NDArray[Number] = ndimage.zoom(
        array, factors, output=kind, order=order, mode="nearest", grid_mode=True
    )
    return zoomed


def scaled(array: Voxels, low: float, high: float) -> Values:
    """Return values so that `low` becomes 0 and `high` 1, cut there."""
    if high <= low:
        return np.zeros(array.shape, np.float32)
    values = array.astype(np.float32)
    values -= np.float32(low)
    values *= np.float32(1.0 / (high - low))
    return np.clip(values, 0.0, 1.0, out=values)
