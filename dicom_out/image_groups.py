"""Measurement groups of single images: what the report says about each finding, box and segment.

Each group has coordinates on an image, because viewers show nothing of a report in which one group
has none.
"""

from __future__ import annotations

from collections.abc import Iterator

from highdicom.sr import Measurement, PlanarROIMeasurementsAndQualitativeEvaluations
from pydicom.sr.coding import Code

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
from dicom_out.measurements import measure_box, measure_outline
from dicom_out.model_result import ImageResult, ModelDescription
from dicom_out.region import HOT, Outline, hot_outline, rectangle, whole_image
from dicom_out.words import of_box, of_finding, of_outline
from ledger.domain import Box, Finding, Segment


def image_groups(result: ImageResult, number: int, model: ModelDescription) -> Iterator[Group]:
    """Yield TID 1410 for each finding, box and segment on one image.

    A finding whose places are marked by boxes has a group for each box instead of its own.
    """
    prediction = result.prediction
    boxed = {box.label for box in prediction.boxes}
    for finding in prediction.findings:
        if finding.label not in boxed:
            yield _finding_group(result, finding, number, model)
    for index, box in enumerate(prediction.boxes, 1):
        yield _box_group(result, box, index, number, model)
    for segment in prediction.segments:
        yield _segment_group(result, segment, number, model)


def _finding_group(
    result: ImageResult, finding: Finding, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one finding on one image."""
    outline, where = _region(result, finding)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, finding, model, where=f"image {number}: {where}"
        ),
        referenced_region=image_region(result.source, outline),
        finding_type=code_of(finding),
        algorithm_id=algorithm_of(model, finding),
        measurements=[
            _share(codes.PROBABILITY, finding.probability),
            _share(codes.THRESHOLD, finding.threshold),
        ],
        qualitative_evaluations=[verdict(is_positive=finding.is_positive)],
    )
    return with_comment(group, of_finding(finding).text)


def _box_group(
    result: ImageResult, box: Box, index: int, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one box."""
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, box, model, which=f"box {index}", where=f"image {number}"
        ),
        referenced_region=image_region(
            result.source, rectangle(box.x_min, box.y_min, box.x_max, box.y_max)
        ),
        finding_type=code_of(box),
        algorithm_id=algorithm_of(model, box),
        measurements=[
            _share(codes.PROBABILITY, box.score),
            _share(codes.THRESHOLD, box.threshold),
            *measurements_of(measure_box(box, result.source)),
        ],
        qualitative_evaluations=[verdict(is_positive=True)],
    )
    return with_comment(group, of_box(box, result.source).text)


def _segment_group(
    result: ImageResult, segment: Segment, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one outlined region: the outline of its largest part, and its area."""
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, segment, model, where=f"image {number}: largest part"
        ),
        referenced_region=image_region(result.source, outline_of(segment.mask)),
        finding_type=code_of(segment),
        algorithm_id=algorithm_of(model),
        measurements=measurements_of(measure_outline(segment, result.source)),
        qualitative_evaluations=[verdict(is_positive=bool(segment.mask.any()))],
    )
    return with_comment(group, of_outline(segment, result.source).text)


def _region(result: ImageResult, finding: Finding) -> tuple[Outline, str]:
    """Return where the finding lies, and in words what kind of region that is."""
    heatmap = result.prediction.heatmap
    if heatmap is not None and finding.is_positive and heatmap.label == finding.label:
        outline = hot_outline(heatmap.array)
        if outline is not None:
            return outline, f"heatmap of {HOT} and more (an explanation, not a segmentation)"
    rows, columns = result.display.shape[:2]
    return whole_image(rows, columns), "whole image"


def _share(name: Code, value: float) -> Measurement:
    """Return a share as a percentage of four decimals."""
    return Measurement(name=name, value=round(value * 100, 4), unit=codes.PERCENT)
