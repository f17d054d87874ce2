"""Random changes of training canvases, by MONAI."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from monai import transforms
from monai.data import set_track_meta
from numpy.typing import NDArray

from training.recipe import AugmentSpec

Augment = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Mix = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def build_augment(spec: AugmentSpec, height: int, width: int, seed: int) -> Augment:
    """Return a function that changes one canvas, [H, W] or [H, W, 3] in [0, 1], at random.

    One seed gives one sequence of changes.
    """
    set_track_meta(False)  # canvases have no affine
    chain = transforms.Compose(
        [*_geometry(spec, height, width), *intensity_changes(spec, height, width)]
    )
    chain.set_random_state(seed)

    def augment(canvas: NDArray[np.float32]) -> NDArray[np.float32]:
        is_gray = canvas.ndim == 2
        planes = canvas[np.newaxis] if is_gray else canvas.transpose(2, 0, 1)
        changed = torch.as_tensor(chain(torch.from_numpy(np.ascontiguousarray(planes))))
        values = changed.clamp(0.0, 1.0).numpy()
        return values[0] if is_gray else values.transpose(1, 2, 0)

    return augment


def _geometry(spec: AugmentSpec, height: int, width: int) -> list[transforms.Transform]:
    chain: list[transforms.Transform] = []
    if spec.flip in {"horizontal", "both"}:
        chain.append(transforms.RandFlip(prob=0.5, spatial_axis=1))
    if spec.flip == "both":
        chain.append(transforms.RandFlip(prob=0.5, spatial_axis=0))
    if spec.rotate_degrees or spec.scale or spec.shift:
        # One resampling for all, so that pictures are blurred once only.
        affine = transforms.RandAffine(
            prob=0.9,
            rotate_range=[math.radians(spec.rotate_degrees)],
            scale_range=[spec.scale, spec.scale],
            translate_range=[spec.shift * height, spec.shift * width],
            spatial_size=(height, width),
            padding_mode="zeros",
            cache_grid=True,
        )
        chain.append(affine)
    return chain


def intensity_changes(spec: AugmentSpec, height: int, width: int) -> list[transforms.Transform]:
    """Return random changes of grey values or colours, for pictures and volumes."""
    chain: list[transforms.Transform] = []
    if spec.gamma:
        gamma = (1.0 - spec.gamma, 1.0 / (1.0 - spec.gamma))
        chain.append(transforms.RandAdjustContrast(prob=0.5, gamma=gamma))
    if spec.contrast:
        chain.append(transforms.RandScaleIntensity(prob=0.5, factors=spec.contrast))
    if spec.brightness:
        chain.append(transforms.RandShiftIntensity(prob=0.5, offsets=spec.brightness))
    if spec.tint:
        tint = transforms.RandScaleIntensity(prob=0.5, factors=spec.tint, channel_wise=True)
        chain.append(tint)
    if spec.noise:
        chain.append(transforms.RandGaussianNoise(prob=0.3, std=spec.noise))
    if spec.blur_px:
        sigma = (0.1, max(0.1, spec.blur_px))
        chain.append(transforms.RandGaussianSmooth(prob=0.15, sigma_x=sigma, sigma_y=sigma))
    if spec.cutout:
        largest = [max(2, round(spec.cutout * side)) for side in (height, width)]
        cutout = transforms.RandCoarseDropout(
            holes=1, max_holes=5, spatial_size=2, max_spatial_size=largest, fill_value=0.0, prob=0.5
        )
        chain.append(cutout)
    return chain


def build_mix(spec: AugmentSpec) -> Mix:
    """Return a function that mixes a batch, [B, C, H, W], and its classes, [B, K], at random.

    The randomness is torch's own.
    """
    from torchvision.transforms import v2  # needs operators that building a network registers first

    kinds = [
        kind(alpha=alpha)
        for kind, alpha in ((v2.MixUp, spec.mixup), (v2.CutMix, spec.cutmix))
        if alpha
    ]
    if not kinds:
        return lambda batch, shares: (batch, shares)
    return v2.RandomChoice(kinds)
