"""Slices of a series: where they lie, and which of its images are none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger.domain import InstanceFacts

ANGLE = 1e-3
"""How far direction cosines of parallel slices may be apart."""


def slice_normal(orientation: Sequence[float]) -> tuple[float, float, float]:
    """Return the normal of a slice: of length 1 if its six direction cosines are right.

    PS3.3 section C.7.6.2.1.1.

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


def are_parallel(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two Image Orientations are the same, as far as scanners write them alike."""
    return len(one) == len(other) and all(
        abs(x - y) <= ANGLE for x, y in zip(one, other, strict=True)
    )


def images_left_out(study: Iterable[InstanceFacts], slices: Sequence[str]) -> int:
    """Count the images of a series that a volume of it leaves out, such as those of other phases.

    None, where objects of the volume have since been replaced by some with fewer frames.

    Parameters
    ----------
    study
        What is known of the images of the study.
    slices
        SOP Instance UID of each slice of the volume; slices that are frames of one object share it.
    """
    images = [one for one in study if one.has_pixel_data]
    used = set(slices)
    series = {one.series_instance_uid for one in images if one.sop_instance_uid in used}
    frames = (max(1, one.number_of_frames) for one in images if one.series_instance_uid in series)
    return max(0, sum(frames) - len(slices))
