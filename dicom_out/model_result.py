"""What goes into the writers and what comes out: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_out.patient import fit_text
from dicom_out.uids import derive_uid
from ledger.domain import Code, Finding, ModelIdentity, Prediction


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
class ResultObject:
    """A DICOM result, written and checked.

    ``data`` is a whole Part 10 file; ``kind`` is ``sr`` or ``sc``.
    """

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data: bytes


def fit_model(model: ModelDescription, character_set: str | list[str]) -> ModelDescription:
    """Return the description with texts that can be written in a character set."""
    return replace(
        model,
        identity=replace(model.identity, name=fit_text(model.name, character_set)),
        intended_use=fit_text(model.intended_use, character_set),
        research_statement=fit_text(model.research_statement, character_set),
        licence=fit_text(model.licence, character_set) if model.licence else "",
    )


def fit_finding(finding: Finding, character_set: str | list[str]) -> Finding:
    """Return the finding with texts that can be written in a character set."""
    concept = finding.concept
    meaning = fit_text(concept.meaning, character_set)[:64]
    return replace(
        finding,
        label=fit_text(finding.label, character_set),
        concept=Code(concept.value, concept.scheme, meaning),
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
