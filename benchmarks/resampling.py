"""How a mask should come back from a network's grid: by its nearest voxels or by its surface.

The readers' masks of a folder in the layout of ``labels.csv`` are brought to finer and coarser
grids by the nearest voxel and back by either way, and compared with themselves::

    python -m benchmarks.resampling --data DIR [--split val]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.nifti import read_nifti
from inference.volume_input import on_network_grid, on_source_grid

GRIDS_MM = ((1.25, 1.0, 1.0), (2.5, 2.0, 2.0), (3.0, 3.0, 3.0))
Mask = NDArray[np.bool_]


def nearest(mask: Mask, sides: tuple[int, ...]) -> Mask:
    return on_network_grid(mask.view(np.uint8), sides).view(np.bool_)


WAYS: dict[str, Callable[[Mask, tuple[int, ...]], Mask]] = {
    "nearest voxel": nearest,
    "surface": on_source_grid,
}


def surface_mm(one: Mask, other: Mask, spacing: tuple[float, ...]) -> float:
    """Return the mean distance of two surfaces, both ways, in mm."""
    rims = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
    far = [ndimage.distance_transform_edt(~rim, sampling=spacing) for rim in rims]
    return float(np.concatenate([far[0][rims[1]], far[1][rims[0]]]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    with (options.data / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == options.split]
    masks = [read_nifti(options.data / row["mask"]) for row in rows]
    print(f"{len(masks)} masks, means\n")
    print("| grid, mm | back by | Dice | surface, mm | volume |\n|---|---|---|---|---|")
    for grid in GRIDS_MM:
        for name, way in WAYS.items():
            figures = []
            for volume in masks:
                truth, own = volume.array > 0, volume.spacing_mm
                pairs = zip(truth.shape, own, grid, strict=True)
                sides = [round(side * mm / wanted) for side, mm, wanted in pairs]
                back = way(nearest(truth, tuple(sides)), truth.shape)
                dice = 2 * (truth & back).sum() / (truth.sum() + back.sum())
                change = back.sum() / truth.sum() - 1
                figures.append((dice, surface_mm(truth, back, own), change))
            dice, far, change = np.mean(figures, axis=0)
            title = " x ".join(f"{mm:g}" for mm in grid)
            print(f"| {title} | {name} | {dice:.4f} | {far:.3f} | {change:+.2%} |")


if __name__ == "__main__":
    main()
