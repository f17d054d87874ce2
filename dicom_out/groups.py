"""Measurement groups: what the report says about each finding, box and segment.

Each group has coordinates on an image, because viewers show nothing of a report in which one group
has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from highdicom._standard_utils import get_sop_class_iod_map, is_attribute_in_iod
from highdicom.sr import (
    AlgorithmIdentification,
    ContentSequence,
    ImageRegion,
    Measurement,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    ScoordContentItem,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.measurements import (
    Measured,
    largest_slice,
    measure_box,
    measure_outline,
    measure_volume,
)
from dicom_out.model_result import (
    ImageResult,
    ModelDescription,
    VolumeResult,
)
from dicom_out.patient import read_text
from dicom_out.region import HOT, Outline, hot_outline, rectangle, whole_image
from dicom_out.uids import derive_uid
from dicom_out.words import of_box, of_finding, of_outline, of_segment
from ledger.domain import Box, Finding, Segment
from ledger.product import PRODUCT

CONTAINS = RelationshipTypeValues.CONTAINS
Group: TypeAlias = (
    PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


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


def _finding_group(
    result: ImageResult, finding: Finding, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one finding on one image."""
    outline, where = _region(result, finding)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, finding, model, where=f"image {number}: {where}"
        ),
        referenced_region=_image_region(result.source, outline),
        finding_type=_code(finding),
        algorithm_id=_algorithm(model, finding),
        measurements=[
            _share(codes.PROBABILITY, finding.probability),
            _share(codes.THRESHOLD, finding.threshold),
        ],
        qualitative_evaluations=[_verdict(is_positive=finding.is_positive)],
    )
    return _with_comment(group, of_finding(finding).text)


def _box_group(
    result: ImageResult, box: Box, index: int, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one box."""
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, box, model, which=f"box {index}", where=f"image {number}"
        ),
        referenced_region=_image_region(
            result.source, rectangle(box.x_min, box.y_min, box.x_max, box.y_max)
        ),
        finding_type=_code(box),
        algorithm_id=_algorithm(model, box),
        measurements=[
            _share(codes.PROBABILITY, box.score),
            _share(codes.THRESHOLD, box.threshold),
            *_measurements(measure_box(box, result.source)),
        ],
        qualitative_evaluations=[_verdict(is_positive=True)],
    )
    return _with_comment(group, of_box(box, result.source).text)


def _segment_group(
    result: ImageResult, segment: Segment, number: int, model: ModelDescription
) -> Group:
    """Return TID 1410 for one outlined region: the outline of its largest part, and its area."""
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(
            result.source, segment, model, where=f"image {number}: largest part"
        ),
        referenced_region=_image_region(result.source, _outline(segment.mask)),
        finding_type=_code(segment),
        algorithm_id=_algorithm(model),
        measurements=_measurements(measure_outline(segment, result.source)),
        qualitative_evaluations=[_verdict(is_positive=bool(segment.mask.any()))],
    )
    return _with_comment(group, of_outline(segment, result.source).text)


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
        finding_type=_code(segment),
        algorithm_id=_algorithm(model),
        measurements=_measurements(measure_volume(segment, result)),
        qualitative_evaluations=[_verdict(is_positive=True)],
        **place,
    )
    if segmentation is not None:
        _show_largest_slice(group, result, segment)
    return _with_comment(group, of_segment(segment, result).text)


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
        referenced_region=_image_region(source, whole_image(*segment.mask.shape[1:]), frame),
        finding_type=_code(segment),
        algorithm_id=_algorithm(model),
        qualitative_evaluations=[_verdict(is_positive=False)],
    )
    return _with_comment(group, of_segment(segment, result).text)


def _slice_region(result: VolumeResult, segment: Segment, index: int) -> ImageRegion:
    """Return the outline of a segment's largest part on one slice."""
    source, frame = result.place_of(index)
    return _image_region(source, _outline(segment.mask[index]), frame)


def _outline(mask: NDArray[np.bool_]) -> Outline:
    """Return the outline of a region's largest part; of none, or one too thin, the whole image."""
    outline = hot_outline(mask.astype(np.float32))
    return whole_image(*mask.shape) if outline is None else outline


def _measurements(measured: Sequence[Measured]) -> list[Measurement]:
    return [Measurement(name=one.name, value=one.value, unit=one.unit) for one in measured]


def _with_comment(group: Group, text: str) -> Group:
    comment = TextContentItem(name=codes.COMMENT, value=text, relationship_type=CONTAINS)
    group[0].ContentSequence.append(comment)
    return group


def _code(item: Finding | Box | Segment) -> Code:
    return Code(item.concept.value, item.concept.scheme, item.concept.meaning)


def _verdict(*, is_positive: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(
        name=codes.RESULT_AT_THRESHOLD, value=codes.POSITIVE if is_positive else codes.NEGATIVE
    )


def _image_region(source: Dataset, outline: Outline, frame: int | None = None) -> ImageRegion:
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


def _region(result: ImageResult, finding: Finding) -> tuple[Outline, str]:
    """Return where the finding lies, and in words what kind of region that is."""
    heatmap = result.prediction.heatmap
    if heatmap is not None and finding.is_positive and heatmap.label == finding.label:
        outline = hot_outline(heatmap.array)
        if outline is not None:
            return outline, f"heatmap of {HOT} and more (an explanation, not a segmentation)"
    rows, columns = result.display.shape[:2]
    return whole_image(rows, columns), "whole image"


def _frames(source: Dataset) -> list[int] | None:
    """Return the frame that was analysed: the first one, where the SOP class has frames."""
    several = read_text(source, "NumberOfFrames") not in ("", "0", "1")
    sop_class = str(source.SOPClassUID)
    if several and sop_class in get_sop_class_iod_map():
        several = is_attribute_in_iod("NumberOfFrames", sop_class)
    return [1] if several else None


def _algorithm(
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


def _share(name: Code, value: float) -> Measurement:
    """Return a share as a percentage of four decimals."""
    return Measurement(name=name, value=round(value * 100, 4), unit=codes.PERCENT)
