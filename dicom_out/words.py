"""Everything that a prediction says, in words that every viewer can show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from dicom_out.measurements import Measured, measure_box, measure_outline, measure_volume
from dicom_out.model_result import ImageResult, VolumeResult
from ledger.domain import Box, Finding, KeySlice, Segment


@dataclass(frozen=True, slots=True)
class Statement:
    """One line of a report.

    Attributes
    ----------
    about
        What was looked for.
    verdict
        In a word: positive, negative, marked, outlined or not found.
    probability, threshold
        As shares of 1; None where the model gives none.
    sizes
        Measurements.
    note
        What else is to be said, or ``""``.
    label
        The model's name for it, by which pictures colour it.
    """

    about: str
    verdict: str
    probability: float | None = None
    threshold: float | None = None
    sizes: tuple[Measured, ...] = ()
    note: str = ""
    label: str = ""

    @property
    def text(self) -> str:
        """All of it as one sentence."""
        words = [self.verdict, *(_named(size) for size in self.sizes)]
        if self.note:
            words.append(self.note)
        said = f"{self.about}: {', '.join(words)}"
        if self.probability is None or self.threshold is None:
            return f"{said}."
        return (
            f"{said}, probability {percent(self.probability)} "
            f"(threshold {percent(self.threshold)})."
        )


def percent(share: float) -> str:
    """Return a probability for people: one decimal, and never a rounded-up certainty."""
    return f"{min(max(share, 0.001), 0.999) * 100:.1f} %" if 0 < share < 1 else f"{share:.0%}"


def of_finding(finding: Finding, key_slice: KeySlice | None = None) -> Statement:
    """Return what one finding says, and if its image was shown for it among many, that too."""
    return Statement(
        finding.concept.meaning,
        "positive" if finding.is_positive else "negative",
        finding.probability,
        finding.threshold,
        note="" if key_slice is None else key_slice.note(finding.label),
        label=finding.label,
    )


def of_box(box: Box, source: Dataset) -> Statement:
    """Return what one box says; `source` tells the size of a pixel."""
    size = f"{box.x_max - box.x_min:.0f} x {box.y_max - box.y_min:.0f} pixels"
    return Statement(
        box.concept.meaning,
        f"marked by a box of {size}",
        box.score,
        box.threshold,
        measure_box(box, source),
        label=box.label,
    )


def of_outline(segment: Segment, source: Dataset) -> Statement:
    """Return what one region on an image says; `source` tells the size of a pixel."""
    name = segment.concept.meaning
    if not segment.mask.any():
        return Statement(name, "not found", label=segment.label)
    sizes = measure_outline(segment, source)
    share = f"{segment.mask.mean():.1%} of the image"
    return Statement(name, "outlined", sizes=sizes, note=share, label=segment.label)


def of_segment(segment: Segment, result: VolumeResult) -> Statement:
    """Return what one segment of a series says."""
    name = segment.concept.meaning
    if not segment.mask.any():
        return Statement(name, "not found", label=segment.label)
    slices = int(segment.mask.any(axis=(1, 2)).sum())
    note = f"on {slices} of {len(segment.mask)} slices"
    sizes = measure_volume(segment, result)
    return Statement(name, "outlined", sizes=sizes, note=note, label=segment.label)


def of_rest(result: VolumeResult) -> list[Statement]:
    """Return what is to be said where a series holds more than the volume that was analysed."""
    if not result.left_out:
        return []
    slices = len(result.sources)
    return [
        Statement(
            "Images of the series",
            f"{slices} of {slices + result.left_out} analysed",
            note="as one volume; the others, such as another phase or stack, were left out",
        )
    ]


def statements(result: ImageResult | VolumeResult) -> list[Statement]:
    """Return everything that a result says."""
    prediction = result.prediction
    if isinstance(result, VolumeResult):
        return [*(of_segment(one, result) for one in prediction.segments), *of_rest(result)]
    return [
        *(of_finding(finding, prediction.key_slice) for finding in prediction.findings),
        *(of_box(box, result.source) for box in prediction.boxes),
        *(of_outline(segment, result.source) for segment in prediction.segments),
    ]


def texts(said: Iterable[Statement]) -> list[str]:
    """Return statements as sentences."""
    return [statement.text for statement in said]


def _named(size: Measured) -> str:
    return f"{size.name.meaning.lower()} {size.text}"
