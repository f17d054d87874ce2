"""The structured report: TID 1500 Measurement Report in a Comprehensive 3D SR.

One report holds all images that one model has analysed in one study. Each finding has a
measurement group of its own (TID 1410) with a region on the image, because viewers show nothing of
a report in which one group has no coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom._standard_utils import get_sop_class_iod_map, is_attribute_in_iod
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.image_library import image_library
from dicom_out.model_result import ImageResult, ModelDescription, sentence
from dicom_out.patient import (
    REQUIRED,
    character_set_of,
    fit_text,
    read_element,
    read_text,
)
from dicom_out.region import HOT, Outline, hot_outline, whole_image
from dicom_out.series import LONG_STRING, ResultSeries, finish
from dicom_out.uids import derive_uid
from ledger.domain import Finding
from ledger.product import PRODUCT

SERIES_NUMBER = 9001
"""Far behind what scanners number; viewers sort by it."""

NOT_REVIEWED = "AI result - not reviewed by a physician."

CONTAINS = RelationshipTypeValues.CONTAINS


def encode_report(
    results: Sequence[ImageResult],
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return the report of all images as a data set with file meta information.

    Parameters
    ----------
    results
        Images of one study; their texts fit the identity's character set.
    model
        The model that made them.
    identity
        Patient and Study attributes.
    series
        UIDs and time of the new series.
    """
    report = Comprehensive3DSR(
        evidence=[_evidence(result.source) for result in results],
        content=_content(results, model, identity),
        series_instance_uid=series.series_instance_uid,
        series_number=SERIES_NUMBER,
        series_description=f"AI report: {model.name}, not reviewed"[:LONG_STRING],
        sop_instance_uid=series.sop_instance_uid(1),
        instance_number=1,
        manufacturer=PRODUCT,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[codes.private_scheme()],
    )
    _name_sop_classes(report, [result.source for result in results])
    finish(report, source=results[0].source, identity=identity, model=model, series=series)
    return report


def _evidence(source: Dataset) -> Dataset:
    """Return what highdicom needs of a source; names and dates follow with the identity."""
    evidence = Dataset()
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(evidence, keyword, source[keyword].value)
    evidence.SOPClassUID = _known_class(source)
    for keyword in REQUIRED:
        setattr(evidence, keyword, "")
    return evidence


def _content(results: Sequence[ImageResult], model: ModelDescription, identity: Dataset) -> Dataset:
    """Return the root container."""
    report = MeasurementReport(
        observation_context=_observer(model),
        procedure_reported=_procedure(results[0].source, identity),
        imaging_measurements=[
            _measurement_group(result, finding, number, model)
            for number, result in enumerate(results, 1)
            for finding in result.prediction.findings
        ],
        title=codes.IMAGING_MEASUREMENT_REPORT,
    )
    root: Dataset = report[0]
    items = list(root.ContentSequence)
    place = next(
        index
        for index, item in enumerate(items)
        if item.ConceptNameCodeSequence[0].CodeValue == codes.IMAGING_MEASUREMENTS.value
    )
    words = [
        TextContentItem(name=codes.CONCLUSION, value=text, relationship_type=CONTAINS)
        for text in _conclusions(results)
    ]
    statement = (
        f"{NOT_REVIEWED} {model.research_statement.rstrip('.')}. "
        f"Intended use: {model.intended_use.rstrip('.')}."
    )
    words.append(TextContentItem(name=codes.COMMENT, value=statement, relationship_type=CONTAINS))
    library = image_library([result.source for result in results])
    root.ContentSequence = [*items[:place], *words, library, *items[place:]]
    return root


def _conclusions(results: Sequence[ImageResult]) -> list[str]:
    """Say each finding in words, for viewers that show only text."""
    several = len(results) > 1
    return [
        f"Image {number}: {sentence(finding)}" if several else sentence(finding)
        for number, result in enumerate(results, 1)
        for finding in result.prediction.findings
    ]


def _observer(model: ModelDescription) -> ObservationContext:
    """Return TID 1001 with the model as device observer (TID 1004)."""
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=standard.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=model.device_uid,
                name=model.name,
                manufacturer_name=PRODUCT,
                model_name=f"{model.identity.model_id} {model.identity.version}",
                serial_number=model.identity.digest,
            ),
        )
    )


def _procedure(source: Dataset, identity: Dataset) -> Code:
    """Return the imaging procedure: as the source codes it, else by its modality (CID 100)."""
    element = read_element(source, "ProcedureCodeSequence")
    for item in element.value if element is not None and element.VR == "SQ" else ():
        value, scheme, meaning = (
            read_text(item, keyword)
            for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        )
        if not character_set_of(identity):  # readers refuse other letters that nothing declares
            meaning = fit_text(meaning, "")
        if 0 < len(value) <= 16 and 0 < len(scheme) <= 16 and 0 < len(meaning) <= 64:
            return Code(value, scheme, meaning)
    return codes.PROCEDURES.get(read_text(source, "Modality"), codes.IMAGING_PROCEDURE)


def _measurement_group(
    result: ImageResult, finding: Finding, number: int, model: ModelDescription
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """Return TID 1410 for one finding on one image."""
    concept = Code(finding.concept.value, finding.concept.scheme, finding.concept.meaning)
    outline, where = _region(result, finding)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=derive_uid(
                "tracking",
                result.source.SOPInstanceUID,
                model.identity.model_id,
                finding.label,
            ),
            identifier=f"{concept.meaning}, image {number}: {where}",
        ),
        referenced_region=_image_region(result.source, outline),
        finding_type=concept,
        algorithm_id=_algorithm(model, finding),
        measurements=[
            _share(codes.PROBABILITY, finding.probability),
            _share(codes.THRESHOLD, finding.threshold),
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(
                name=codes.RESULT_AT_THRESHOLD,
                value=codes.POSITIVE if finding.is_positive else codes.NEGATIVE,
            )
        ],
    )
    group[0].ContentSequence.append(
        TextContentItem(name=codes.COMMENT, value=sentence(finding), relationship_type=CONTAINS)
    )
    return group


def _image_region(source: Dataset, outline: Outline) -> ImageRegion:
    """Return the SCOORD that marks a place on a source image."""
    return ImageRegion(
        graphic_type="POLYLINE",
        graphic_data=outline,
        source_image=SourceImageForRegion(
            referenced_sop_class_uid=_known_class(source),
            referenced_sop_instance_uid=source.SOPInstanceUID,
            referenced_frame_numbers=_frames(source),
        ),
    )


def _known_class(source: Dataset) -> str:
    """Return the SOP class, or a stand-in for a private or retired one that highdicom won't take.

    :func:`_name_sop_classes` puts the true one back.
    """
    sop_class = str(source.SOPClassUID)
    return sop_class if sop_class in get_sop_class_iod_map() else SecondaryCaptureImageStorage


def _name_sop_classes(report: Dataset, sources: Sequence[Dataset]) -> None:
    """Give every reference the SOP class that its image really has."""
    classes = {str(source.SOPInstanceUID): str(source.SOPClassUID) for source in sources}
    for element in report.iterall():
        if element.keyword == "ReferencedSOPSequence":
            for item in element.value:
                item.ReferencedSOPClassUID = classes[str(item.ReferencedSOPInstanceUID)]


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


def _algorithm(model: ModelDescription, finding: Finding) -> AlgorithmIdentification:
    """Return TID 4019."""
    return AlgorithmIdentification(
        name=model.name,
        version=model.identity.version,
        manufacturer=PRODUCT,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[
            f"model={model.identity.model_id}",
            f"sha256={model.identity.digest}",
            f"threshold={finding.threshold:.6g}",
        ],
    )


def _share(name: Code, value: float) -> Measurement:
    """Return a share as a percentage of four decimals."""
    return Measurement(name=name, value=round(value * 100, 4), unit=codes.PERCENT)
