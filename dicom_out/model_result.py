"""What goes into the writers and what comes out: plain values."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_out.patient import LONG_STRING, fit_text
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
        The header of each slice, in the order of the masks' first axis. Slices that are frames of
        one object share its header.
    display
        uint8 [slices, rows, columns], as a viewer shows the slices.
    frames
        Of slices that are frames of one object their numbers, from 1; else none.
    left_out
        How many more images the series holds, as those of other phases or stacks.
    """

    prediction: Prediction
    sources: tuple[Dataset, ...]
    display: NDArray[np.uint8]
    frames: tuple[int, ...] = ()
    left_out: int = 0

    def place_of(self, index: int) -> tuple[Dataset, int | None]:
        """Return the header of a slice, and its frame number in it if it has frames."""
        return self.sources[index], self.frames[index] if self.frames else None

    @property
    def objects(self) -> tuple[Dataset, ...]:
        """The header of each SOP Instance, once."""
        return tuple({id(source): source for source in self.sources}.values())


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What results say about the model that made them."""

    identity: ModelIdentity
    intended_use: str
    research_statement: str
    content_qualification: str = "RESEARCH"
    """RESEARCH, SERVICE or PRODUCT: Content Qualification (0018,9004), PS3.3 C.8.13.2.1.1"""
    licence: str = ""
    calibration: str = ""
    """How probabilities were made honest, such as ``temperature 1.31``; empty if there are none"""
    facts: tuple[tuple[str, str], ...] = ()
    """What else the model card says in short: name and value"""
    limits: tuple[str, ...] = ()
    """What the model card warns of"""

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

    ``data`` is a whole Part 10 file; ``kind`` is one of
    :data:`dicom_out.profile.KINDS`; ``variant`` is :meth:`dicom_out.profile.Profile.variant` of the
    one it was written for.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data: bytes
    variant: str = ""
    transfer_syntax_uid: str = ExplicitVRLittleEndian

    @classmethod
    def of(cls, ds: Dataset, kind: str, variant: str) -> ResultObject:
        """Return a finished data set as the bytes that are sent."""
        buffer = io.BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        return cls(
            kind=kind,
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            series_instance_uid=str(ds.SeriesInstanceUID),
            data=buffer.getvalue(),
            variant=variant,
        )


def fit_model(model: ModelDescription, character_set: str | list[str]) -> ModelDescription:
    """Return the description with texts that can be written in a character set."""
    return replace(
        model,
        identity=replace(model.identity, name=fit_text(model.name, character_set)[:LONG_STRING]),
        intended_use=fit_text(model.intended_use, character_set),
        research_statement=fit_text(model.research_statement, character_set),
        licence=fit_text(model.licence, character_set) if model.licence else "",
        calibration=fit_text(model.calibration, character_set) if model.calibration else "",
    )


Labelled = TypeVar("Labelled", Finding, Box, Segment)


def fit_prediction(prediction: Prediction, character_set: str | list[str]) -> Prediction:
    """Return the prediction with texts that can be written in a character set."""

    def fit(item: Labelled) -> Labelled:
        concept = item.concept
        meaning = fit_text(concept.meaning, character_set)[:LONG_STRING]
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
