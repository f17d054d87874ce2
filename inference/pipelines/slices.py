"""All slices of a series, one by one, to the few that speak most for something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.backends import Backend
from inference.errors import ImageError
from inference.pipelines.classification import classify, find
from inference.quality import check_source
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from ledger.domain import Finding, InstanceFacts, KeySlice, Prediction
from ledger.slices import along_normal

NORMAL = "17621005"
"""SNOMED CT code of "Normal": nothing that a slice could be shown for."""

OpenSlice = Callable[[], SourceImage]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slice that was looked at: which one of the given ones, and what was found."""

    index: int
    facts: InstanceFacts
    findings: tuple[Finding, ...]


def classify_slices(
    package: ModelPackage, backend: Backend, slices: Sequence[OpenSlice], *, has_gate: bool
) -> tuple[Prediction, ...]:
    """Return predictions about the key slices: for each label but "normal" its most probable one.

    One slice is in memory at a time. Slices that can't be read, or that the gate doesn't let
    through, as often above and below the organ, are left out.

    Parameters
    ----------
    slices
        What opens each slice, in any order; key slices are opened twice.
    has_gate
        Whether the model's gate is asked about each slice.

    Raises
    ------
    InferenceError
        No slice is left: the first one's reason.
    """
    seen: list[_Seen] = []
    first_error: ImageError | None = None
    for index, open_slice in enumerate(slices):
        try:
            image = open_slice()
            if has_gate:
                check_source(image, package)
        except ImageError as error:
            first_error = first_error or error
            continue
        seen.append(_Seen(index, image.facts, find(package.manifest, backend, image)[0]))
    if first_error is not None and not seen:
        raise first_error
    ordered = _along_the_normal(seen)
    predictions = []
    for place, key in _key_slices(ordered, package, len(slices)):
        prediction = classify(package, backend, slices[ordered[place].index]())
        predictions.append(replace(prediction, key_slice=key))
    return tuple(predictions)


def _key_slices(
    ordered: Sequence[_Seen], package: ModelPackage, slices: int
) -> list[tuple[int, KeySlice]]:
    """Return the places of the key slices among those seen, with what each is shown for."""
    chosen: dict[int, list[tuple[str, int]]] = {}
    for number, output in enumerate(package.manifest.outputs):
        if output.concept.value == NORMAL and len(package.manifest.outputs) > 1:
            continue
        findings = [one.findings[number] for one in ordered]
        place = int(np.argmax([finding.probability for finding in findings]))
        positive = sum(finding.is_positive for finding in findings)
        chosen.setdefault(place, []).append((output.label, positive))
    return [
        (
            place,
            KeySlice(
                tuple(label for label, _ in signs),
                tuple(count for _, count in signs),
                place + 1,
                slices,
                len(ordered),
            ),
        )
        for place, signs in sorted(chosen.items())
    ]


def _along_the_normal(seen: Sequence[_Seen]) -> list[_Seen]:
    """Put slices in order by their position, if all have one; else leave them as they are."""
    if not all(one.facts.image_position and one.facts.image_orientation for one in seen):
        return list(seen)
    shared = seen[0].facts.image_orientation
    return sorted(seen, key=lambda one: along_normal(one.facts.image_position, shared))
