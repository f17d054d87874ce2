"""Domain types: plain frozen values that travel down the line from association to delivery.

They know nothing of databases, networks or DIMSE. Field names are DICOM keywords in snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the receiving process has no use for 14 MB of it
    import numpy as np
    from numpy.typing import NDArray


class ObjectState(StrEnum):
    """What became of a received object; only what is indexed may expire later."""

    RECEIVED = "received"
    """Acknowledged; its header has not been read yet."""
    INDEXED = "indexed"
    """Part of a study."""
    DUPLICATE = "duplicate"
    """Identical bytes were here already; nothing changed."""
    OWN_RESULT = "own_result"
    """One of Pacsight's results came back; it never starts an analysis."""
    QUARANTINED = "quarantined"
    """Kept, with a reason, because it can't be read."""
    EXPIRED = "expired"
    """Was part of a study; its bytes are removed by the rules of retention."""


class JobState(StrEnum):
    """State of one stage of work."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """State of one result object at one destination."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up; ``pacsight deliveries retry`` starts it again."""


class Proof(StrEnum):
    """What tells that a delivered object really is at its destination."""

    COMMITMENT = "commitment"
    """The destination has committed to keep it (PS3.4 Annex J)."""
    FIND = "find"
    """It lists the object when asked (C-FIND)."""
    SUCCESS = "success"
    """Nothing but its answer to C-STORE: it can't be asked, or is not to be."""


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What a header says about one SOP Instance: all that completeness and routing look at.

    Absent or empty attributes are ``""``, ``0`` or ``()``; nothing is guessed.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    body_part_examined: str = ""
    view_position: str = ""
    series_description: str = ""
    series_number: int = 0
    instance_number: int = 0
    image_type: tuple[str, ...] = ()
    photometric_interpretation: str = ""
    samples_per_pixel: int = 0
    bits_stored: int = 0
    bits_allocated: int = 0
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 0
    has_pixel_data: bool = False
    burned_in_annotation: str = ""
    manufacturer: str = ""
    patient_age: str = ""
    patient_sex: str = ""
    patient_age_years: float | None = None
    """From Patient's Age, else from birth and study date."""
    acquisition_number: int = 0
    echo_number: int = 0
    temporal_position: int = 0
    """Temporal Position Identifier (0020,0100)."""
    frame_of_reference_uid: str = ""
    image_position: tuple[float, ...] = ()
    """Image Position (Patient), three numbers, mm. Of several frames the first one's, as all that
    follows."""
    image_orientation: tuple[float, ...] = ()
    """Image Orientation (Patient), six direction cosines."""
    pixel_spacing_mm: tuple[float, ...] = ()
    """Pixel Spacing: between rows, between columns."""
    slice_thickness_mm: float = 0.0
    contrast_agent: str = ""
    """Contrast/Bolus Agent; ``""``: none, or not said."""
    convolution_kernel: str = ""
    images_in_acquisition: int = 0
    number_of_temporal_positions: int = 0
    number_of_study_related_series: int = 0
    number_of_study_related_instances: int = 0
    number_of_series_related_instances: int = 0
    requested_procedure_priority: str = ""
    performed_procedure_step_start_date: str = ""
    performed_procedure_step_start_time: str = ""
    scheduled_procedure_step_id: str = ""
    """Of the first item of Request Attributes Sequence, as the next."""
    requested_procedure_id: str = ""
    concatenation_uid: str = ""
    in_concatenation_total_number: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that :meth:`from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InstanceFacts:
        """Read what :meth:`to_json` wrote; keys of other versions are ignored."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        for name, value in known.items():
            if isinstance(value, list):
                known[name] = tuple(value)
        return cls(**known)


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """Patient and Study level attributes: whose study it is. PHI, never for logs."""

    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    study_id: str = ""
    referring_physician_name: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): Code Value, Coding Scheme Designator, Code Meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A coded reason why a model was not applied. A refusal is a result, not an error."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model made a result: id, version and the sha256 of its weights."""

    model_id: str
    version: str
    digest: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """What a model that takes one series of a study says about each."""

    series_instance_uid: str
    series_number: int
    part: str
    """Which part of the series it is about, where one series holds several volumes."""
    images: int
    refusal: Refusal | None = None
    """Why it isn't the one that is analysed."""


@dataclass(frozen=True, slots=True)
class RoutingDecision:
    """One model's answer to one study: the SOP Instances it takes, or why it takes none."""

    model: ModelIdentity
    sop_instance_uids: tuple[str, ...] = ()
    refusal: Refusal | None = None
    series: tuple[SeriesAnswer, ...] = ()
    """Of a model that takes one series: how each was judged."""
    reason: str = ""
    """Of an acceptance: what was taken, in a sentence."""

    @property
    def is_accepted(self) -> bool:
        """Whether the model applies."""
        return self.refusal is None


@dataclass(frozen=True, slots=True)
class Finding:
    """A coded concept with its calibrated probability and the operating threshold."""

    label: str
    concept: Code
    probability: float
    threshold: float

    @property
    def is_positive(self) -> bool:
        """Whether the probability reaches the threshold."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Grad-CAM: an explanation, never a segmentation.

    ``array`` is [rows, columns] float32 in [0, 1] on the grid of the source image.
    """

    array: NDArray[np.float32]
    label: str
    layer: str


@dataclass(frozen=True, slots=True)
class Box:
    """A place on an image, in pixels of the source: x to the right, y down, 0 at the outer edge."""

    label: str
    concept: Code
    score: float
    """Calibrated probability."""
    threshold: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
"""CID 7150."""


@dataclass(frozen=True, slots=True)
class SegmentKind:
    """How a segment is described beside its concept (PS3.3 C.8.20.4).

    Attributes
    ----------
    category
        Segmented Property Category, CID 7150.
    region
        Anatomic Region (PS3.3 10.5), if the concept doesn't say where it is.
    color
        Recommended red, green and blue, 0 to 255; None lets the writer choose.
    """

    category: Code = ANATOMICAL_STRUCTURE
    region: Code | None = None
    color: tuple[int, int, int] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SegmentKind:
        """Read what :func:`dataclasses.asdict` made of one."""
        region, color = data["region"], data["color"]
        return cls(
            Code(**data["category"]),
            None if region is None else Code(**region),
            None if color is None else (color[0], color[1], color[2]),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A region that a model has outlined.

    ``mask`` is bool on the grid of the source: [rows, columns] of an image, or
    [slices, rows, columns] of a series, in the order of the prediction's ``sop_instance_uids``.
    """

    label: str
    concept: Code
    mask: NDArray[np.bool_]
    volume_ml: float | None = None
    """Of a series whose voxels have a size."""
    kind: SegmentKind = SegmentKind()
    slice_areas_mm2: tuple[float, ...] = ()
    """Of a series: the area on each slice."""


@dataclass(frozen=True, slots=True)
class KeySlice:
    """That a prediction is about the slice of a series that speaks most for some labels."""

    labels: tuple[str, ...]
    positive_slices: tuple[int, ...]
    """For each label on how many slices it is positive."""
    number: int
    """Among the slices looked at, from 1, along their normal."""
    slices: int
    slices_looked_at: int
    """Without those that the model's gate doesn't let through."""

    def note(self, label: str) -> str:
        """Return in words what the slice is shown for; ``""`` if not for this label."""
        if label not in self.labels:
            return ""
        count = self.positive_slices[self.labels.index(label)]
        return f"the highest of {self.slices_looked_at} slices looked at, positive on {count}"

    @property
    def sentence(self) -> str:
        """The same in words."""
        signs = "; ".join(
            f"{label} (positive on {count})"
            for label, count in zip(self.labels, self.positive_slices, strict=True)
        )
        return (
            f"Of {self.slices_looked_at} slices looked at, of {self.slices} in the series, number "
            f"{self.number} speaks most for: {signs}."
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model says about one image, or about the slices of one series."""

    model: ModelIdentity
    sop_instance_uids: tuple[str, ...]
    """One, or those of the slices."""
    findings: tuple[Finding, ...]
    heatmap: Heatmap | None
    seconds: float
    """Preparation, inference and explanation, in seconds."""
    boxes: tuple[Box, ...] = ()
    segments: tuple[Segment, ...] = ()
    key_slice: KeySlice | None = None
    """Of a model that looked at all slices of a series, one by one."""

    @property
    def sop_instance_uid(self) -> str:
        """The image, or the first slice."""
        return self.sop_instance_uids[0]
