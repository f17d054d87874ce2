"""What the objects of a series say about what is missing of it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ledger.domain import InstanceFacts
from ledger.slices import along_normal

SAME_MM = 0.01
"""Positions closer than this are one"""
GAP = 1.5
"""A step this many times the smallest is a gap"""
LEAST_POSITIONS = 3


@dataclass(frozen=True, slots=True)
class SeriesState:
    """Whether a series is built of slices, and what is missing of it, in words."""

    is_stack: bool
    missing: tuple[str, ...]


def examine(instances: Sequence[InstanceFacts]) -> SeriesState:
    """Look at the current instances of one series.

    Missing is what the objects count (Images in Acquisition, Number of Series Related Instances,
    temporal positions, concatenations) and is not there, or where slices leave a gap. Localizers
    and multi-frame objects are no stacks.
    """
    slices = [one for one in instances if _is_slice(one)]
    missing = (*_short_counts(instances), *_gaps(slices), *_short_times(slices))
    return SeriesState(bool(slices), tuple(missing))


def _is_slice(one: InstanceFacts) -> bool:
    has_place = bool(one.image_position and one.image_orientation)
    return has_place and one.number_of_frames <= 1 and "LOCALIZER" not in one.image_type


def _short_counts(instances: Sequence[InstanceFacts]) -> Iterable[str]:
    stated = max((one.number_of_series_related_instances for one in instances), default=0)
    if stated > len(instances):
        yield f"{stated - len(instances)} of the {stated} instances that a series counts"
    acquisitions: dict[int, list[int]] = defaultdict(list)
    parts: dict[str, list[int]] = defaultdict(list)
    for one in instances:
        acquisitions[one.acquisition_number].append(one.images_in_acquisition)
        if one.concatenation_uid:
            parts[one.concatenation_uid].append(one.in_concatenation_total_number)
    for what, groups in (
        ("images of an acquisition", acquisitions),
        ("concatenation parts", parts),
    ):
        for counts in groups.values():
            if max(counts) > len(counts):
                yield f"{max(counts) - len(counts)} of {max(counts)} {what}"


def _short_times(slices: Sequence[InstanceFacts]) -> Iterable[str]:
    times = max((one.number_of_temporal_positions for one in slices), default=0)
    if times > 1:
        held = Counter(one.image_position for one in slices)
        lacking = sum(max(0, times - count) for count in held.values())
        if lacking:
            yield f"{lacking} slices of {times} temporal positions"


def _gaps(slices: Sequence[InstanceFacts]) -> Iterable[str]:
    directions: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for one in slices:
        cosines = one.image_orientation
        direction = tuple(round(value, 3) for value in cosines)
        directions[direction].append(along_normal(one.image_position, cosines))
    lacking = sum(_lacking(places) for places in directions.values())
    if lacking:
        yield f"{lacking} slices in gaps of a stack"


def _lacking(places: Iterable[float]) -> int:
    """Return how many slices would fill the gaps."""
    ordered = sorted(places)
    steps = [after - before for before, after in pairwise(ordered) if after - before > SAME_MM]
    if len(steps) + 1 < LEAST_POSITIONS:
        return 0
    smallest = min(steps)
    return sum(round(step / smallest) - 1 for step in steps if step > GAP * smallest)
