"""What goes into the writers and what comes out: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_out.patient import fit_text, read_element
from dicom_out.uids import derive_uid
from ledger.domain import Box, Code, Finding, ModelIdentity, Prediction, Segment


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One prediction with the image it is about.

    Attributes
    ----------
    prediction
        Findings and heatmap; the heatmap lies on the grid of the source image.
    source
        Header of the source image; its pixel data isn't needed.
    display
        uint8 [rows, columns] or [rows, columns, 3], as a viewer shows the source image.
    """

    prediction: Prediction
    source: Dataset
    display: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VolumeResult:
    """One prediction with the series it is about.

    Attributes
    ----------
    prediction
        Segments; their masks lie on the grid of the series.
    sources
        Headers of the slices, in the order of the masks' first axis; or the one header of an
        enhanced multi-frame image.
    display
        uint8 [slices, rows, columns], as a viewer shows the slices.
    frames
        Of a multi-frame image: the number (from 1) of the frame that each slice is. Else empty.
    """

    prediction: Prediction
    sources: tuple[Dataset, ...]
    display: NDArray[np.uint8]
    frames: tuple[int, ...] = ()

    def place_of(self, index: int) -> tuple[Dataset, int | None]:
        """Return the header of a slice, and its frame number in it if it has frames."""
        if self.frames:
            return self.sources[0], self.frames[index]
        return self.sources[index], None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What results say about the model that made them."""

    identity: ModelIdentity
    intended_use: str
    research_statement: str
    content_qualification: str = "RESEARCH"
    """RESEARCH, SERVICE or PRODUCT: Content Qualification (0018,9004), PS3.3 C.8.13.2.1.1"""
    licence: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.identity.name or self.identity.model_id

    @property
    def device_uid(self) -> str:
        """Device UID (0018,1002): another one as soon as the weights change."""
        return derive_uid("device", self.identity.model_id, self.identity.digest)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An earlier report of the same model about the same study, which a new one supersedes."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class ResultObject:
    """A DICOM result, written and checked.

    ``data`` is a whole Part 10 file; ``kind`` is ``sr``, ``sc``, ``seg`` or ``pdf``; ``variant`` is
    :meth:`dicom_out.profile.Profile.variant` of the one it was written for.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data: bytes
    variant: str = ""
    transfer_syntax_uid: str = ExplicitVRLittleEndian


def fit_model(model: ModelDescription, character_set: str | list[str]) -> ModelDescription:
    """Return the description with texts that can be written in a character set."""
    return replace(
        model,
        identity=replace(model.identity, name=fit_text(model.name, character_set)),
        intended_use=fit_text(model.intended_use, character_set),
        research_statement=fit_text(model.research_statement, character_set),
        licence=fit_text(model.licence, character_set) if model.licence else "",
    )


Labelled = TypeVar("Labelled", Finding, Box, Segment)


def fit_prediction(prediction: Prediction, character_set: str | list[str]) -> Prediction:
    """Return the prediction with texts that can be written in a character set."""

    def fit(item: Labelled) -> Labelled:
        concept = item.concept
        meaning = fit_text(concept.meaning, character_set)[:64]
        return replace(
            item,
            label=fit_text(item.label, character_set),
            concept=Code(concept.value, concept.scheme, meaning),
        )

    heatmap = prediction.heatmap
    return replace(
        prediction,
        findings=tuple(fit(finding) for finding in prediction.findings),
        boxes=tuple(fit(box) for box in prediction.boxes),
        segments=tuple(fit(segment) for segment in prediction.segments),
        heatmap=heatmap and replace(heatmap, label=fit_text(heatmap.label, character_set)),
    )


def percent(share: float) -> str:
    """Return a probability for people: one decimal, and never a rounded-up certainty."""
    return f"{min(max(share, 0.001), 0.999) * 100:.1f} %" if 0 < share < 1 else f"{share:.0%}"


def sentence(finding: Finding) -> str:
    """Return one finding in words, as every viewer can show it."""
    verdict = "positive" if finding.is_positive else "negative"
    return (
        f"{finding.concept.meaning}: {verdict}, probability {percent(finding.probability)} "
        f"(threshold {percent(finding.threshold)})."
    )


def box_sentence(box: Box) -> str:
    """Return one box in words."""
    return (
        f"{box.concept.meaning}: marked by a box of {box.x_max - box.x_min:.0f} x "
        f"{box.y_max - box.y_min:.0f} pixels, probability {percent(box.score)} "
        f"(threshold {percent(box.threshold)})."
    )


def segment_sentence(segment: Segment, source: Dataset) -> str:
    """Return one segment in words, with its size; `source` tells the size of a pixel."""
    name = segment.concept.meaning
    if not segment.mask.any():
        return f"{name}: not found."
    if segment.mask.ndim == 3:
        slices = int(segment.mask.any(axis=(1, 2)).sum())
        size = "" if segment.volume_ml is None else f"{segment.volume_ml:.1f} ml, "
        return f"{name}: outlined, {size}on {slices} of {len(segment.mask)} slices."
    share = f"{segment.mask.mean():.1%} of the image"
    pixel = pixel_mm2(source)
    area = "" if pixel is None else f"{segment.mask.sum() * pixel:.0f} mm2, "
    return f"{name}: outlined, {area}{share}."


def sentences(prediction: Prediction, source: Dataset) -> list[str]:
    """Return everything that a prediction says in words."""
    return [
        *(sentence(finding) for finding in prediction.findings),
        *(box_sentence(box) for box in prediction.boxes),
        *(segment_sentence(segment, source) for segment in prediction.segments),
    ]


def pixel_mm2(source: Dataset) -> float | None:
    """Return the area of a pixel, or None: at the detector of a projection it is not the body's."""
    element = read_element(source, "PixelSpacing")
    if element is None or element.VM != 2:
        return None
    try:
        down, across = (float(value) for value in element.value)
    except (TypeError, ValueError):
        return None
    return down * across if down > 0 and across > 0 else None
