"""Measurement groups of series: what the report says about each segment of a volume."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from highdicom.sr import (
    ContentSequence,
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    RelationshipTypeValues,
    ScoordContentItem,
    SourceSeriesForSegmentation,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset

from dicom_out import codes
from dicom_out.groups import (
    Group,
    algorithm_of,
    code_of,
    image_region,
    measurements_of,
    outline_of,
    tracking,
    verdict,
    with_comment,
)
from dicom_out.measurements import largest_slice, measure_volume
from dicom_out.model_result import ModelDescription, VolumeResult
from dicom_out.region import whole_image
from dicom_out.words import of_segment
from ledger.domain import Segment


def volume_groups(
    result: VolumeResult, segmentation: Dataset | None, model: ModelDescription
) -> Iterator[Group]:
    """Yield TID 1411 for each segment of a series, TID 1410 for one that was not found.

    Parameters
    ----------
    segmentation
        The SEG of the segments that were found, in their order; None if none goes along.
    """
    found = 0
    for segment in result.prediction.segments:
        if segment.mask.any():
            found += 1
            yield _volume_group(result, segment, segmentation, found, model)
        else:
            yield _absent_group(result, segment, model)


def _volume_group(
    result: VolumeResult,
    segment: Segment,
    segmentation: Dataset | None,
    number: int,
    model: ModelDescription,
) -> Group:
    """Return TID 1411 for one segment, with its outline on the largest slice.

    It refers to the SEG; if none goes along, to the outline on each slice.
    """
    place: dict[str, object] = {}
    if segmentation is None:
        slices = np.flatnonzero(segment.mask.any(axis=(1, 2)))
        place["referenced_regions"] = [
            _slice_region(result, segment, int(index)) for index in slices
        ]
    else:
        place["referenced_segment"] = ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(result.sources[0].SeriesInstanceUID),
        )
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(result.sources[0], segment, model),
        finding_type=code_of(segment),
        algorithm_id=algorithm_of(model),
        measurements=measurements_of(measure_volume(segment, result)),
        qualitative_evaluations=[verdict(is_positive=True)],
        **place,
    )
    if segmentation is not None:
        _show_largest_slice(group, result, segment)
    return with_comment(group, of_segment(segment, result).text)


def _show_largest_slice(group: Group, result: VolumeResult, segment: Segment) -> None:
    """Put the outline on the largest slice under each measurement (TID 300), for viewers.

    Beside a reference to a SEG highdicom takes no coordinates, and viewers show nothing without.
    """
    largest = _slice_region(result, segment, largest_slice(segment))
    region = ScoordContentItem(
        name=codes.SOURCE,
        graphic_type="POLYLINE",
        graphic_data=largest.value,
        relationship_type=RelationshipTypeValues.INFERRED_FROM,
    )
    region.ContentSequence = largest.ContentSequence
    for item in group[0].ContentSequence:
        if item.ValueType == "NUM":
            item.ContentSequence = ContentSequence([*item.get("ContentSequence", ()), region])


def _absent_group(result: VolumeResult, segment: Segment, model: ModelDescription) -> Group:
    """Return TID 1410 that says a structure was looked for and not found."""
    source, frame = result.place_of(len(segment.mask) // 2)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(result.sources[0], segment, model),
        referenced_region=image_region(source, whole_image(*segment.mask.shape[1:]), frame),
        finding_type=code_of(segment),
        algorithm_id=algorithm_of(model),
        qualitative_evaluations=[verdict(is_positive=False)],
    )
    return with_comment(group, of_segment(segment, result).text)


def _slice_region(result: VolumeResult, segment: Segment, index: int) -> ImageRegion:
    """Return the outline of a segment's largest part on one slice."""
    source, frame = result.place_of(index)
    return image_region(source, outline_of(segment.mask[index]), frame)
