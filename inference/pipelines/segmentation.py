"""One image or one series to outlined structures on the grid of the source."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit

from inference.backends import Backend
from inference.errors import BackendError
from inference.manifest import InputSpec, Manifest, Output
from inference.preprocessing import place, prepare, resize_plane
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from inference.volume import Volume, to_canonical
from inference.volume_input import (
    at_network_spacing,
    network_sides,
    on_source_grid,
    scaled,
    seen_slices,
    value_range,
)
from ledger.domain import Prediction, Segment

OVERLAP = 0.5
"""Of neighbouring windows, where a volume is larger than the network's window."""

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]


def segment_image(package: ModelPackage, backend: Backend, image: SourceImage) -> Prediction:
    """Return the structures on an image; each mask is bool [rows, columns] of it.

    Raises
    ------
    BackendError
        The network gives values that are no numbers.
    """
    started = time.perf_counter()
    spec = package.manifest.input
    logits = _run(backend, prepare(image.array, spec)[np.newaxis], package.manifest)[0]
    position = place(image.rows, image.columns, spec)
    bottom, right = position.top + position.height, position.left + position.width
    inner = logits[:, position.top : bottom, position.left : right]
    size = (image.columns, image.rows)
    on_source = np.stack([resize_plane(plane, size) for plane in inner])
    masks = masks_of(on_source, package.manifest)
    segments = [
        Segment(output.label, output.concept.code, masks[output.label], kind=output.segment.kind)
        for output in package.manifest.outputs
    ]
    return _prediction(package, (image.facts.sop_instance_uid,), segments, started)


def segment_volume(package: ModelPackage, backend: Backend, volume: Volume) -> Prediction:
    """Return the structures in a series; each mask is bool [slices, rows, columns] of it.

    A network for volumes sees the volume turned as all volumes are
    (:func:`inference.volume.to_canonical`). A network for pictures sees each slice as it is.

    Raises
    ------
    BackendError
        The network gives values that are no numbers.
    """
    started = time.perf_counter()
    manifest = package.manifest
    is_solid = len(manifest.input.shape) == 4
    seen, restore = to_canonical(volume) if is_solid else (volume, _as_it_is)
    logits = _of_bands(seen, manifest, backend) if is_solid else _of_slices(seen, manifest, backend)
    masks = _masks_of_slices(logits, manifest, network_sides(seen, manifest.input))
    segments = []
    for output in manifest.outputs:
        mask = restore(on_source_grid(masks[output.label], seen.array.shape))
        millilitres = float(np.count_nonzero(mask)) * volume.voxel_ml
        segments.append(
            Segment(
                output.label,
                output.concept.code,
                mask,
                millilitres,
                output.segment.kind,
                _slice_areas_mm2(mask, volume),
            )
        )
    return _prediction(package, volume.sop_instance_uids, segments, started)


def _slice_areas_mm2(mask: Mask, volume: Volume) -> tuple[float, ...]:
    pixel = float(np.linalg.norm(np.cross(volume.affine[:3, 1], volume.affine[:3, 2])))
    return tuple(float(count) * pixel for count in np.count_nonzero(mask, axis=(1, 2)))


def masks_of(logits: Logits, manifest: Manifest) -> dict[str, Mask]:
    """Return the masks by label.

    Parameters
    ----------
    logits
        [K, ...]. With ``activation: softmax`` the largest one wins, and a channel that no output
        names is background; with ``sigmoid`` each is compared with its output's threshold.

    Returns
    -------
    dict
        bool [...] for each output; with ``keep: largest`` only the largest connected part.
    """
    calibration = manifest.calibration
    scores = logits / np.float32(calibration.temperature)
    if calibration.bias:
        bias = np.asarray(calibration.bias, np.float32)
        scores = scores + bias.reshape(-1, *[1] * (logits.ndim - 1))
    if manifest.activation == "softmax":
        winners = scores.argmax(axis=0)
        found = {output.label: winners == output.channel for output in manifest.outputs}
    else:
        found = {
            output.label: scores[output.channel] >= logit(output.threshold)
            for output in manifest.outputs
        }
    return _cleaned(found, manifest)


def _cleaned(found: dict[str, Mask], manifest: Manifest) -> dict[str, Mask]:
    return {output.label: _kept(found[output.label], output) for output in manifest.outputs}


def _kept(mask: Mask, output: Output) -> Mask:
    if output.keep == "all" or not mask.any():
        return mask
    (inner,) = ndimage.find_objects(mask.view(np.uint8))
    parts, _ = ndimage.label(mask[inner])
    sizes = np.bincount(parts[mask[inner]])
    largest = np.zeros_like(mask)
    largest[inner] = parts == sizes.argmax()
    return largest


def _masks_of_slices(
    logits: Iterable[Logits], manifest: Manifest, sides: Sequence[int]
) -> dict[str, Mask]:
    """Find the masks of each slice alone; what is kept of them is decided in the whole volume."""
    everything = manifest.model_copy(
        update={
            "outputs": tuple(
                output.model_copy(update={"keep": "all"}) for output in manifest.outputs
            )
        }
    )
    found = {output.label: np.zeros(sides, np.bool_) for output in manifest.outputs}
    for number, plane in enumerate(logits):
        for label, mask in masks_of(plane, everything).items():
            found[label][number] = mask
    return _cleaned(found, manifest)


def _of_slices(volume: Volume, manifest: Manifest, backend: Backend) -> Iterator[Logits]:
    """Yield logits [K, rows, columns] of each slice, by a network for pictures."""
    spec, ends = manifest.input, value_range(volume, manifest.input)
    planes = (scaled(plane, *ends) for plane in at_network_spacing(volume, spec))
    for plane in seen_slices(planes, spec):
        yield _slide(plane, manifest, backend)


def _of_bands(volume: Volume, manifest: Manifest, backend: Backend) -> Iterator[Logits]:
    """Yield logits [K, rows, columns] of each slice, by a network for volumes.

    It sees bands as thick as its window, one after the other, which overlap as windows do; where
    they do, their logits are averaged with the weights of windows. So the logits of one band and
    not of the whole volume are in memory.
    """
    from monai.data.utils import compute_importance_map

    spec, ends = manifest.input, value_range(volume, manifest.input)
    values = at_network_spacing(volume, spec)
    depth, count = min(spec.shape[1], len(values)), len(values)
    starts = [*range(0, count - depth, int(spec.shape[1] * (1 - OVERLAP))), count - depth]
    weights = compute_importance_map((spec.shape[1],), mode="gaussian", sigma_scale=0.125).numpy()
    weights = weights[:depth, np.newaxis, np.newaxis]
    sums, total = np.zeros(1, np.float32), np.zeros((depth, 1, 1), np.float32)
    for start, following in pairwise([*starts, count]):
        band = _slide(scaled(values[start : start + depth], *ends), manifest, backend)
        band *= weights
        sums, total = sums + band, total + weights
        done = following - start
        for index in range(done):
            yield sums[:, index] / total[index]
        sums[:, : depth - done], sums[:, depth - done :] = sums[:, done:], 0.0
        total[: depth - done], total[depth - done :] = total[done:], 0.0


def _slide(values: Logits, manifest: Manifest, backend: Backend) -> Logits:
    """Return logits [K, ...] of values in [0, 1], from overlapping windows by MONAI.

    `values` is as :func:`normalised` takes it.
    """
    import torch
    from monai.inferers import sliding_window_inference

    spec = manifest.input

    def predict(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(_run(backend, batch.numpy(), manifest))

    black = normalised(np.zeros((1,) * values.ndim, np.float32), spec)
    given = sliding_window_inference(
        torch.from_numpy(normalised(values, spec)[np.newaxis]),
        spec.shape[1:],
        1,
        predict,
        overlap=OVERLAP,
        mode="gaussian",
        padding_mode="constant",
        cval=float(black.flat[0]),
    )
    logits: Logits = given[0].numpy()
    return logits


def normalised(values: Logits, spec: InputSpec) -> Logits:
    """Turn grey values in [0, 1] into the network's, float32 [C, ...].

    They are [...], the same for all channels, or [C, ...].
    """
    planes = values if values.ndim == len(spec.shape) else values[np.newaxis]
    shape = (-1, *[1] * (len(spec.shape) - 1))
    mean = np.asarray(spec.mean, np.float32).reshape(shape)
    std = np.asarray(spec.std, np.float32).reshape(shape)
    scaled = (planes - mean) / std
    return np.array(np.broadcast_to(scaled, (spec.shape[0], *planes.shape[1:])), np.float32)


def _run(backend: Backend, batch: Logits, manifest: Manifest) -> Logits:
    (logits, *_) = backend.run(batch)
    if not np.isfinite(logits).all():
        raise BackendError(f"Model {manifest.id!r} gave a value that is not a number.")
    return logits


def _as_it_is(mask: Mask) -> Mask:
    return mask


def _prediction(
    package: ModelPackage, uids: tuple[str, ...], segments: list[Segment], started: float
) -> Prediction:
    return Prediction(
        model=package.identity,
        sop_instance_uids=uids,
        findings=(),
        heatmap=None,
        seconds=time.perf_counter() - started,
        segments=tuple(segments),
    )
