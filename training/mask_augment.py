"""Random patches of pictures and volumes with their masks, changed at random, by MONAI."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai import transforms
from monai.data import set_track_meta
from numpy.typing import NDArray

from training.augment import intensity_changes
from training.masked_data import MaskedCanvas
from training.recipe import AugmentSpec

IMAGE, MASK = "image", "mask"

MaskAugment = Callable[[MaskedCanvas], tuple[NDArray[np.float32], NDArray[np.int64]]]


def build_mask_augment(spec: AugmentSpec, sides: Sequence[int], seed: int) -> MaskAugment:
    """Return a function that cuts a patch of `sides` at random and changes it.

    It gives values, float32 [H, W], [H, W, 3] or [D, H, W] in [0, 1], and numbers of classes, int64
    of the same sides. One seed gives one sequence of changes.
    """
    set_track_meta(False)
    both = transforms.Compose([*_cutting(sides), *_geometry(spec, sides)])
    alone = transforms.Compose(intensity_changes(spec, *sides[-2:]))
    both.set_random_state(seed)
    alone.set_random_state(seed + 1)

    def augment(canvas: MaskedCanvas) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        values = torch.from_numpy(canvas.values.astype(np.float32))
        has_colour = values.ndim > len(sides)
        planes = values.movedim(-1, 0) if has_colour else values[None]
        pair = both({IMAGE: planes, MASK: torch.from_numpy(canvas.mask.astype(np.float32))[None]})
        changed = torch.as_tensor(alone(pair[IMAGE])).clamp(0.0, 1.0)
        image = changed.movedim(0, -1) if has_colour else changed[0]
        mask = torch.as_tensor(pair[MASK])[0].round().long()
        return np.ascontiguousarray(image.numpy()), mask.numpy()

    return augment


def _cutting(sides: Sequence[int]) -> list[transforms.Transform]:
    keys = (IMAGE, MASK)
    return [
        transforms.SpatialPadd(keys, sides),
        transforms.RandSpatialCropd(keys, sides, random_size=False),
    ]


def _geometry(spec: AugmentSpec, sides: Sequence[int]) -> list[transforms.Transform]:
    keys, modes = (IMAGE, MASK), ("bilinear", "nearest")
    chain: list[transforms.Transform] = []
    if spec.flip in {"horizontal", "both"}:
        chain.append(transforms.RandFlipd(keys, prob=0.5, spatial_axis=len(sides) - 1))
    if spec.flip == "both":
        chain.append(transforms.RandFlipd(keys, prob=0.5, spatial_axis=len(sides) - 2))
    if spec.rotate_degrees or spec.scale or spec.shift:
        turn = math.radians(spec.rotate_degrees)
        affine = transforms.RandAffined(
            keys,
            prob=0.8,
            rotate_range=[turn] * (3 if len(sides) == 3 else 1),
            scale_range=[spec.scale] * len(sides),
            translate_range=[spec.shift * side for side in sides],
            mode=modes,
            padding_mode="zeros",
            cache_grid=True,
            spatial_size=tuple(sides),
        )
        chain.append(affine)
    if spec.elastic_px and len(sides) == 2:
        elastic = transforms.Rand2DElasticd(
            keys,
            spacing=(24, 24),
            magnitude_range=(0.3 * spec.elastic_px, spec.elastic_px),
            prob=0.4,
            mode=modes,
            padding_mode="zeros",
        )
        chain.append(elastic)
    return chain
