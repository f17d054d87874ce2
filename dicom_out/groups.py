"""What all measurement groups of a report are made of (TID 1410, TID 1411)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from highdicom._standard_utils import get_sop_class_iod_map, is_attribute_in_iod
from highdicom.sr import (
    AlgorithmIdentification,
    ImageRegion,
    Measurement,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.measurements import Measured
from dicom_out.model_result import ModelDescription
from dicom_out.patient import read_text
from dicom_out.region import Outline, hot_outline, whole_image
from dicom_out.uids import derive_uid
from ledger.domain import Box, Finding, Segment
from ledger.product import PRODUCT

CONTAINS = RelationshipTypeValues.CONTAINS
Group: TypeAlias = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def tracking(
    source: Dataset,
    item: Finding | Box | Segment,
    model: ModelDescription,
    which: str = "",
    where: str = "",
) -> TrackingIdentifier:
    """Return identifier and UID of one observation: the same in every object about it.

    The UID outlives a revision of the study: it follows from the image, the model and the label.

    Parameters
    ----------
    which
        Tells observations with one label on one image apart.
    where
        For people only.
    """
    parts = (source.SOPInstanceUID, model.identity.model_id, item.label, which)
    return TrackingIdentifier(
        uid=derive_uid("tracking", *(part for part in parts if part)),
        identifier=", ".join(part for part in (item.concept.meaning, which, where) if part),
    )


def outline_of(mask: NDArray[np.bool_]) -> Outline:
    """Return the outline of a region's largest part; of none, or one too thin, the whole image."""
    outline = hot_outline(mask.astype(np.float32))
    return whole_image(*mask.shape) if outline is None else outline


def measurements_of(measured: Sequence[Measured]) -> list[Measurement]:
    """Return measurements as TID 300."""
    return [Measurement(name=one.name, value=one.value, unit=one.unit) for one in measured]


def with_comment(group: Group, text: str) -> Group:
    """Put a sentence into a group, for viewers that show text only; return the group."""
    comment = TextContentItem(name=codes.COMMENT, value=text, relationship_type=CONTAINS)
    group[0].ContentSequence.append(comment)
    return group


def code_of(item: Finding | Box | Segment) -> Code:
    """Return what was found as a coded concept."""
    return Code(item.concept.value, item.concept.scheme, item.concept.meaning)


def verdict(*, is_positive: bool) -> QualitativeEvaluation:
    """Return the result at the threshold as a qualitative evaluation."""
    return QualitativeEvaluation(
        name=codes.RESULT_AT_THRESHOLD, value=codes.POSITIVE if is_positive else codes.NEGATIVE
    )


def image_region(source: Dataset, outline: Outline, frame: int | None = None) -> ImageRegion:
    """Return the SCOORD that marks a place on a source image, or on one of its frames."""
    return ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=outline,
        source_image=SourceImageForRegion(
            referenced_sop_class_uid=known_class(source),
            referenced_sop_instance_uid=source.SOPInstanceUID,
            referenced_frame_numbers=_frames(source) if frame is None else [frame],
        ),
    )


def known_class(source: Dataset) -> str:
    """Return the SOP class, or a stand-in for a private or retired one that highdicom won't take.

    :func:`dicom_out.sr.name_sop_classes` puts the true one back.
    """
    sop_class = str(source.SOPClassUID)
    return sop_class if sop_class in get_sop_class_iod_map() else SecondaryCaptureImageStorage


def _frames(source: Dataset) -> list[int] | None:
    """Return the frame that was analysed: the first one, where the SOP class has frames."""
    several = read_text(source, "NumberOfFrames") not in ("", "0", "1")
    sop_class = str(source.SOPClassUID)
    if several and sop_class in get_sop_class_iod_map():
        several = is_attribute_in_iod("NumberOfFrames", sop_class)
    return [1] if several else None


def algorithm_of(
    model: ModelDescription, decided: Finding | Box | None = None
) -> AlgorithmIdentification:
    """Return TID 4019, with the threshold of what was decided by one."""
    parameters = [f"model={model.identity.model_id}", f"sha256={model.identity.digest}"]
    if decided is not None:
        parameters.append(f"threshold={decided.threshold:.6g}")
        if model.calibration:
            parameters.append(f"calibration={model.calibration}")
    return AlgorithmIdentification(
        name=model.name,
        version=model.identity.version,
        manufacturer=PRODUCT,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=parameters,
    )
