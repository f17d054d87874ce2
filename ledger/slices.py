"""Where slices lie along their normal (PS3.3 section C.7.6.2.1.1). Pure."""

from __future__ import annotations

from collections.abc import Sequence


def slice_normal(orientation: Sequence[float]) -> tuple[float, float, float]:
    """Return the normal of a slice: of length 1 if its six direction cosines are right.

    Parameters
    ----------
    orientation
        Image Orientation (Patient): where columns count up, then where rows do.
    """
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    return b * f - c * e, c * d - a * f, a * e - b * d


def along_normal(position: Sequence[float], orientation: Sequence[float]) -> float:
    """Return how far a slice lies along its normal, in mm; `position` is Image Position."""
    return sum(x * y for x, y in zip(position, slice_normal(orientation), strict=True))
