"""Which series of a study a model takes, and why not the others. Pure and deterministic.

The images of a series that the model takes are put together; phases, acquisitions or echoes that
lie on top of each other are told apart first. What makes no volume is refused; of the rest the
manifest's preferences choose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.admission import Judged, accepting, furthest
from inference.errors import NotAVolumeError
from inference.manifest import Manifest, Preference
from inference.stack import plane_name, plane_of, stack_of
from ledger.domain import InstanceFacts, Refusal, RoutingDecision, SeriesAnswer

_PARTS: tuple[tuple[str, Callable[[InstanceFacts], int]], ...] = (
    ("temporal position", lambda one: one.temporal_position),
    ("acquisition", lambda one: one.acquisition_number),
    ("echo", lambda one: one.echo_number),
)
_MICROMETRE = 3


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Images of one series, or one part of it, in their order in the study."""

    images: tuple[InstanceFacts, ...]
    part: str = ""
    number: int = 0
    """Of the part."""

    @property
    def first(self) -> InstanceFacts:
        return self.images[0]

    @property
    def slices(self) -> int:
        return sum(max(1, one.number_of_frames) for one in self.images)


def choose_series(judged: Sequence[Judged], manifest: Manifest) -> RoutingDecision:
    """Choose among the images of a study, given in its order.

    Returns
    -------
    RoutingDecision
        The images of one series, or a refusal; with an answer for each series or part of one.
    """
    by_series: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        by_series[one[0].series_instance_uid].append(one)
    answers: list[SeriesAnswer] = []
    fitting: list[_Candidate] = []
    nearly: list[tuple[int, Refusal]] = []
    for series in by_series.values():
        taken = [facts for facts, _, refusal in series if refusal is None]
        if not taken:
            answers.append(_answer(_Candidate(tuple(one[0] for one in series)), furthest(series)))
        for candidate in _candidates(taken):
            refusal = _refuse(candidate, manifest)
            if refusal is None:
                fitting.append(candidate)
            else:
                nearly.append((candidate.slices, refusal))
                answers.append(_answer(candidate, refusal))
    if not fitting:
        refusal = max(nearly, key=lambda pair: pair[0])[1] if nearly else furthest(judged)
        return RoutingDecision(manifest.identity, (), refusal, _sorted(answers))
    best = min(fitting, key=lambda one: _rank(one, manifest))
    for candidate in fitting:
        refusal = None if candidate is best else _preferred(best, candidate, manifest)
        answers.append(_answer(candidate, refusal))
    uids = tuple(one.sop_instance_uid for one in best.images)
    return RoutingDecision(manifest.identity, uids, None, _sorted(answers))


def _candidates(taken: Sequence[InstanceFacts]) -> list[_Candidate]:
    """Return the volumes that a series may hold; each multi-frame object is one."""
    several = [_Candidate((one,)) for one in taken if one.number_of_frames > 1]
    single = tuple(one for one in taken if one.number_of_frames <= 1)
    if not single:
        return several
    if _is_doubled(single):
        for name, key in _PARTS:
            parts: dict[int, list[InstanceFacts]] = defaultdict(list)
            for one in single:
                parts[key(one)].append(one)
            if len(parts) > 1 and not any(_is_doubled(part) for part in parts.values()):
                named = [
                    _Candidate(tuple(part), f"{name} {number}", number)
                    for number, part in sorted(parts.items())
                ]
                return several + named
    return [*several, _Candidate(single)]


def _is_doubled(images: Sequence[InstanceFacts]) -> bool:
    places = [
        tuple(round(value, _MICROMETRE) for value in one.image_position)
        for one in images
        if one.image_position
    ]
    return len(set(places)) < len(places)


def _refuse(candidate: _Candidate, manifest: Manifest) -> Refusal | None:
    """Return why a model of volumes can't take it. Slices that are looked at alone always fit."""
    if manifest.input.unit != "series":
        return None
    minimum = manifest.input.minimum_slices
    if candidate.slices < minimum:
        return Refusal(
            "SERIES_TOO_SHORT",
            f"The longest series has {candidate.slices} slices; at least {minimum} are needed.",
        )
    if len(candidate.images) == 1 or not any(one.image_position for one in candidate.images):
        return None  # frames and files without headers are judged when they are read
    try:
        stack = stack_of([plane_of(one) for one in candidate.images])
    except NotAVolumeError as error:
        return Refusal(error.code, str(error))
    return _refuse_spacing(float(np.linalg.norm(stack.affine[:3, 0])), candidate, manifest)


def _refuse_spacing(
    distance_mm: float, candidate: _Candidate, manifest: Manifest
) -> Refusal | None:
    accepts = accepting(candidate.first, manifest)
    if accepts is None or accepts.slice_spacing_mm is None:
        return None
    least, greatest = accepts.slice_spacing_mm
    if least <= distance_mm <= greatest:
        return None
    return Refusal(
        "SLICE_SPACING_NOT_ACCEPTED",
        f"The slices are {distance_mm:.2f} mm apart; {least:g} to {greatest:g} mm are accepted.",
    )


def _rank(candidate: _Candidate, manifest: Manifest) -> tuple[float | str, ...]:
    """Return what sorts the best one first."""
    first = candidate.first
    ranks = (_RANKS[rule.by](candidate, rule) for rule in manifest.prefer)
    number = (first.series_number, first.series_instance_uid, candidate.number)
    return (*ranks, -candidate.slices, *number)


def _by_contrast(candidate: _Candidate, _rule: Preference) -> float:
    return 0.0 if candidate.first.contrast_agent else 1.0


def _by_plane(candidate: _Candidate, rule: Preference) -> float:
    plane = plane_name(candidate.first.image_orientation)
    return _place([plane == value.upper() for value in rule.values])


def _by_description(candidate: _Candidate, rule: Preference) -> float:
    text = candidate.first.series_description.casefold()
    return _place([value.casefold() in text for value in rule.values])


def _by_kernel(candidate: _Candidate, rule: Preference) -> float:
    kernel = candidate.first.convolution_kernel.casefold()
    return _place([value.casefold() in kernel for value in rule.values])


def _by_thickness(candidate: _Candidate, rule: Preference) -> float:
    thickness = candidate.first.slice_thickness_mm
    return abs(thickness - (rule.nearest_mm or 0.0)) if thickness > 0.0 else float("inf")


def _by_slices(candidate: _Candidate, _rule: Preference) -> float:
    return -float(candidate.slices)


def _place(matches: Sequence[bool]) -> float:
    return float(matches.index(True)) if True in matches else float(len(matches))


_RANKS: Mapping[str, Callable[[_Candidate, Preference], float]] = {
    "contrast": _by_contrast,
    "plane": _by_plane,
    "description": _by_description,
    "kernel": _by_kernel,
    "slice_thickness": _by_thickness,
    "slices": _by_slices,
}
_REASONS = {
    "contrast": "it was made with a contrast agent",
    "plane": "of its plane",
    "description": "of its description",
    "kernel": "of its kernel",
    "slice_thickness": "its slice thickness is nearer to what the model needs",
    "slices": "it has more slices",
}


def _preferred(best: _Candidate, other: _Candidate, manifest: Manifest) -> Refusal:
    """Say which rule decided between the chosen one and another."""
    by = next(
        (
            rule.by
            for rule in manifest.prefer
            if _RANKS[rule.by](best, rule) != _RANKS[rule.by](other, rule)
        ),
        "slices" if best.slices != other.slices else "",
    )
    part = f", {best.part}," if best.part else ""
    reason = _REASONS.get(by, "it comes first")
    return Refusal(
        "OTHER_SERIES_PREFERRED",
        f"Series {best.first.series_number}{part} is preferred because {reason}.",
    )


def _answer(candidate: _Candidate, refusal: Refusal | None) -> SeriesAnswer:
    first = candidate.first
    return SeriesAnswer(
        first.series_instance_uid, first.series_number, candidate.part, candidate.slices, refusal
    )


def _sorted(answers: Sequence[SeriesAnswer]) -> tuple[SeriesAnswer, ...]:
    def key(one: SeriesAnswer) -> tuple[int, str, str]:
        return one.series_number, one.series_instance_uid, one.part

    return tuple(sorted(answers, key=key))
