"""The gate before inference: refuses poor pictures, and those of a kind the model doesn't know."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.descriptor import Measures, describe, measure
from inference.display_values import PERCENTILES
from inference.errors import (
    BlurredImageError,
    ClippedImageError,
    EmptyImageError,
    QualityError,
    UnknownKindError,
)
from inference.gate import Gate, load_gate
from inference.gate_spec import GateSpec
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from inference.volume import Volume, Voxels, percentiles_of
from ledger.domain import Refusal

MINIMUM_CONTRAST = 0.005
"""Standard deviation of the reduced picture; a picture with less shows nothing. White is 1."""


def check_source(source: SourceImage | Volume, package: ModelPackage) -> None:
    """Refuse a picture, or a series by its middle slice, that the model's gate doesn't let through.

    A model without a gate takes everything.

    Raises
    ------
    QualityError
        One of its kinds.
    ModelPackageError
        The gate's file can't be read.
    """
    gate = package.manifest.gate
    if gate is not None:
        array = source.array if isinstance(source, SourceImage) else middle_slice(source.array)
        _check(array, gate, package.folder / gate.file, package.manifest.name)


def check_picture(image: SourceImage, package: ModelPackage) -> Refusal | None:
    """Return why the model's gate refuses a picture, or None; as :func:`check_source`.

    Raises
    ------
    ModelPackageError
        The gate's file can't be read.
    """
    try:
        check_source(image, package)
    except QualityError as error:
        return Refusal(error.code, str(error))
    return None


def middle_slice(volume: Voxels, place: float = 0.5) -> NDArray[np.float32]:
    """Return the middle slice of [slices, rows, columns], or the one at a share of the way.

    Its values are in [0, 1]: 0.5 % and 99.5 % of all voxels.
    """
    low, high = percentiles_of(volume, *PERCENTILES)
    middle = volume[min(int(len(volume) * place), len(volume) - 1)]
    if high <= low:
        return np.zeros(middle.shape, np.float32)
    return np.clip((middle - low) / (high - low), 0.0, 1.0).astype(np.float32)


def judge(description: NDArray[np.float32], seen: Measures, gate: Gate, spec: GateSpec) -> str:
    """Return the code of the refusal of a picture, or ``""``.

    Parameters
    ----------
    description, seen
        From :func:`inference.descriptor.describe` and :func:`inference.descriptor.measure`.
    """
    if seen.contrast < MINIMUM_CONTRAST:
        return EmptyImageError.code
    rows = description[np.newaxis]
    limit = spec.minimum_likeness
    if limit is not None and float(gate.likenesses(rows)[0]) < limit:
        return UnknownKindError.code
    if seen.white > spec.maximum_white or seen.black > spec.maximum_black:
        return ClippedImageError.code
    if seen.sharpness < spec.minimum_sharpness:
        return BlurredImageError.code
    if float(gate.distances(rows)[0]) > spec.maximum_distance:
        return UnknownKindError.code
    return ""


def _check(array: NDArray[np.float32], spec: GateSpec, file: Path, model: str) -> None:
    seen = measure(array)
    match judge(describe(array), seen, _gate(file, spec.sha256), spec):
        case EmptyImageError.code:
            raise EmptyImageError("The image is empty: all of it has about the same brightness.")
        case ClippedImageError.code:
            raise ClippedImageError(
                f"{seen.white:.0%} of the image is plain white and {seen.black:.0%} plain black; "
                f"{model!r} takes at most {spec.maximum_white:.0%} and {spec.maximum_black:.0%}. "
                "Check its window and exposure."
            )
        case BlurredImageError.code:
            raise BlurredImageError(
                "The image is blurred or was enlarged from a small one; send a sharp original."
            )
        case UnknownKindError.code:
            raise UnknownKindError(
                f"The image doesn't look like those that {model!r} was made for; "
                "check that it is the right kind of image."
            )


@lru_cache(maxsize=64)
def _gate(file: Path, sha256: str) -> Gate:
    """Read a gate once; the digest makes a changed file another one."""
    del sha256
    return load_gate(file)
