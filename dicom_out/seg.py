"""Segments of a series as a DICOM SEG, on the grid of its slices (PS3.3 A.51)."""

from __future__ import annotations

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_out import codes
from dicom_out.groups import tracking
from dicom_out.model_result import ModelDescription, VolumeResult
from dicom_out.overlays import colour_of
from dicom_out.series import LONG_STRING, ResultSeries, finish
from ledger.domain import Segment
from ledger.product import PRODUCT

SERIES_NUMBER = 9003
"""Behind the pictures' series."""


def encode_segmentation(
    result: VolumeResult,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset | None:
    """Return the segments that were found as a binary SEG; None if none was.

    Frames without any voxel are left out; each frame names the slice that it lies on.

    Parameters
    ----------
    result
        The series; its texts fit the identity's character set.
    model, identity, series
        As for :func:`dicom_out.sr.encode_report`.
    """
    found = [segment for segment in result.prediction.segments if segment.mask.any()]
    if not found:
        return None
    ds = Segmentation(
        source_images=list(result.sources),
        pixel_array=np.stack([segment.mask for segment in found], axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe(result, segment, number, model) for number, segment in enumerate(found, 1)
        ],
        series_instance_uid=series.series_instance_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=series.sop_instance_uid(1),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=model.name[:LONG_STRING],
        software_versions=model.identity.version,
        device_serial_number=model.identity.digest[:LONG_STRING],
        content_creator_name=PRODUCT,
        content_description=f"AI segmentation: {model.name}, not reviewed"[:LONG_STRING],
        content_label="AI_SEGMENTATION",
        series_description=f"AI segmentation: {model.name}, not reviewed"[:LONG_STRING],
    )
    finish(ds, source=result.sources[0], identity=identity, model=model, series=series)
    return ds


def _describe(
    result: VolumeResult, segment: Segment, number: int, model: ModelDescription
) -> SegmentDescription:
    concept = segment.concept
    mark = tracking(result.sources[0], concept.meaning, "", model)
    identifier, uid = mark[0].TextValue, mark[1].UID
    index = result.prediction.segments.index(segment)
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=codes.ANATOMICAL_STRUCTURE,
        segmented_property_type=Code(concept.value, concept.scheme, concept.meaning),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model.name[:LONG_STRING],
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=model.identity.version,
            source=PRODUCT,
        ),
        tracking_uid=uid,
        tracking_id=identifier[:LONG_STRING],
        display_color=CIELabColor.from_rgb(*colour_of(index)),
    )
