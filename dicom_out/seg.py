"""Segments of a series as a DICOM SEG, on the grid of its slices (PS3.3 A.51).

highdicom writes it fast and lean where it gets one array of numbers: a single mask as it lies
there, several that don't overlap as one label map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.sr.coding import Code as CodedConcept

from dicom_out import codes
from dicom_out.groups import tracking
from dicom_out.model_result import ModelDescription, VolumeResult
from dicom_out.overlays import colours_of
from dicom_out.patient import LONG_STRING, read_text
from dicom_out.planes import plane_headers
from dicom_out.profile import Profile
from dicom_out.series import ResultSeries, finish
from ledger.domain import Code, Segment
from ledger.product import PRODUCT

SERIES_NUMBER = 9003
"""Behind the pictures' series."""


def encode_segmentation(
    result: VolumeResult,
    profile: Profile,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset | None:
    """Return the segments that were found as a SEG; None if none was, or there is no place for it.

    A place needs a frame of reference that the slices share with it (PS3.3 C.7.4.1).

    Each frame names the slice that it lies on. Segments that overlap are BINARY whatever the
    profile says, because a label map can't hold them.

    Parameters
    ----------
    result
        The series; its texts fit the identity's character set.
    profile
        Whether it is BINARY or LABELMAP, and what becomes of frames without any voxel.
    model, identity, series
        As for :func:`dicom_out.sr.encode_report`.
    """
    found = [segment for segment in result.prediction.segments if segment.mask.any()]
    if not found or not read_text(result.sources[0], "FrameOfReferenceUID"):
        return None
    labels = _label_map([segment.mask for segment in found])
    is_label_map = profile.seg == "labelmap" and labels is not None
    if labels is None:
        labels = np.stack([segment.mask for segment in found], axis=-1).view(np.uint8)
    ds = Segmentation(
        source_images=plane_headers(result),
        pixel_array=labels,
        segmentation_type="LABELMAP" if is_label_map else "BINARY",
        segment_descriptions=[
            _describe(result, segment, number, model) for number, segment in enumerate(found, 1)
        ],
        omit_empty_frames=profile.empty_frames == "omit",
        series_instance_uid=series.series_instance_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=series.sop_instance_uid(1),
        instance_number=1,
        manufacturer=PRODUCT,
        manufacturer_model_name=model.name,
        software_versions=model.identity.version,
        device_serial_number=model.identity.digest[:LONG_STRING],
        content_creator_name=PRODUCT,
        content_description=f"AI segmentation: {model.name}, not reviewed"[:LONG_STRING],
        content_label="AI_SEGMENTATION",
        series_description=f"AI segmentation: {model.name}, not reviewed"[:LONG_STRING],
    )
    _name_frames(ds, result.frames)
    _put_background_last(ds)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        item.DimensionOrganizationUID = series.dimension_organization_uid  # else a random one
    finish(ds, source=result.sources[0], identity=identity, model=model, series=series)
    return ds


def _label_map(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8] | None:
    """Return [slices, rows, columns] with each voxel's segment number; None if two overlap."""
    if len(masks) == 1:
        return masks[0].view(np.uint8)
    labels = np.zeros(masks[0].shape, np.uint8)
    for number, mask in enumerate(masks, 1):
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            if labels[index][mask[index]].any():
                return None
            labels[index][mask[index]] = number
    return labels


def _put_background_last(ds: Dataset) -> None:
    """Put the background that a label map describes behind its segments.

    PS3.3 C.8.20.2 asks for no order. OHIF 3.13 gives the n-th colour to segment n, so that a
    background in front of them would move all colours by one.
    """
    background = [part for part in ds.SegmentSequence if part.SegmentNumber == 0]
    others = [part for part in ds.SegmentSequence if part.SegmentNumber > 0]
    ds.SegmentSequence = ItemSequence([*others, *background])


def _name_frames(ds: Dataset, frames: Sequence[int]) -> None:
    """Put in the numbers that the frames have in their image; highdicom counted the planes."""
    if not frames:
        return
    named = (
        source
        for group in ds.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for source in derivation.SourceImageSequence
    )
    for source in {id(item): item for item in named}.values():  # segments of a slice share one
        source.ReferencedFrameNumber = frames[int(source.ReferencedFrameNumber) - 1]


def _describe(
    result: VolumeResult, segment: Segment, number: int, model: ModelDescription
) -> SegmentDescription:
    mark = tracking(result.sources[0], segment, model)
    identifier, uid = mark[0].TextValue, mark[1].UID
    kind = segment.kind
    segments = result.prediction.segments
    colour = colours_of(segments)[segments.index(segment)]
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=_coded(kind.category),
        segmented_property_type=_coded(segment.concept),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model.name,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=model.identity.version,
            source=PRODUCT,
        ),
        tracking_uid=uid,
        tracking_id=identifier[:LONG_STRING],
        anatomic_regions=None if kind.region is None else [_coded(kind.region)],
        display_color=CIELabColor.from_rgb(*colour),
    )


def _coded(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme, code.meaning)
