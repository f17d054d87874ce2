"""The structured report: TID 1500 Measurement Report in a Comprehensive 3D SR.

One report holds everything that one model has said about one study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.sr import (
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code

from dicom_out import codes
from dicom_out.groups import Group, known_class
from dicom_out.image_library import image_library
from dicom_out.model_result import ModelDescription, Predecessor
from dicom_out.patient import (
    LONG_STRING,
    REQUIRED,
    character_set_of,
    fit_text,
    read_element,
    read_text,
)
from dicom_out.series import ResultSeries, finish
from ledger.product import PRODUCT

SERIES_NUMBER = 9001
"""Far behind what scanners number; viewers sort by it."""

NOT_REVIEWED = "AI result - not reviewed by a physician."

CONTAINS = RelationshipTypeValues.CONTAINS


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report says.

    Attributes
    ----------
    sources
        Headers of the images it is about.
    conclusions
        Everything in words, for viewers that show only text.
    groups
        Measurement groups.
    segmentations
        SEG objects that the groups refer to.
    illustrations
        Secondary Captures of the result.
    supersedes
        Earlier reports that this one takes the place of.
    """

    sources: Sequence[Dataset]
    conclusions: Sequence[str]
    groups: Sequence[Group]
    segmentations: Sequence[Dataset] = ()
    illustrations: Sequence[Dataset] = ()
    supersedes: Sequence[Predecessor] = ()


def encode_report(
    content: ReportContent,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return the report as a data set with file meta information.

    Parameters
    ----------
    content
        About images of one study; its texts fit the identity's character set.
    model
        The model that made them.
    identity
        Patient and Study attributes.
    series
        UIDs and time of the new series.
    """
    referenced = [*content.sources, *content.segmentations, *content.illustrations]
    report = Comprehensive3DSR(
        evidence=evidence_of(referenced),
        content=_content(content, model, identity),
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
    name_sop_classes(report, referenced)
    set_predecessors(report, content.supersedes)
    finish(report, source=content.sources[0], identity=identity, model=model, series=series)
    return report


def evidence_of(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return what highdicom needs of the sources; names and dates follow with the identity."""
    evidence = []
    for source in sources:
        item = Dataset()
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            setattr(item, keyword, source[keyword].value)
        item.SOPClassUID = known_class(source)
        evidence.append(item)
    for keyword in REQUIRED:
        setattr(evidence[0], keyword, "")
    return evidence


def _content(content: ReportContent, model: ModelDescription, identity: Dataset) -> Dataset:
    """Return the root container."""
    report = MeasurementReport(
        observation_context=observer_of(model),
        procedure_reported=_procedure(content.sources[0], identity),
        imaging_measurements=list(content.groups),
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
        for text in content.conclusions
    ]
    statement = (
        f"{NOT_REVIEWED} {model.research_statement.rstrip('.')}. "
        f"Intended use: {model.intended_use.rstrip('.')}."
    )
    words.append(TextContentItem(name=codes.COMMENT, value=statement, relationship_type=CONTAINS))
    library = image_library(content.sources, content.illustrations)
    root.ContentSequence = [*items[:place], *words, library, *items[place:]]
    return root


def observer_of(model: ModelDescription) -> ObservationContext:
    """Return TID 1001 with the model as device observer (TID 1004).

    Manufacturer, model name and UID are those of the Contributing Equipment, as IHE AI Results
    Rev. 1.3, table 6.5.3.1-1, asks for.
    """
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=standard.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=model.device_uid,
                name=model.identity.model_id,
                manufacturer_name=PRODUCT,
                model_name=model.name,
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


def set_predecessors(report: Dataset, supersedes: Sequence[Predecessor]) -> None:
    """Name the documents that this one supersedes (PS3.3 C.17.2)."""
    if not supersedes:
        return
    study = Dataset()
    study.StudyInstanceUID = report.StudyInstanceUID
    study.ReferencedSeriesSequence = ItemSequence()
    for earlier in supersedes:
        instance, series = Dataset(), Dataset()
        instance.ReferencedSOPClassUID = earlier.sop_class_uid
        instance.ReferencedSOPInstanceUID = earlier.sop_instance_uid
        series.SeriesInstanceUID = earlier.series_instance_uid
        series.ReferencedSOPSequence = ItemSequence([instance])
        study.ReferencedSeriesSequence.append(series)
    report.PredecessorDocumentsSequence = ItemSequence([study])


def name_sop_classes(report: Dataset, sources: Sequence[Dataset]) -> None:
    """Give every reference the SOP class that its image really has."""
    classes = {str(source.SOPInstanceUID): str(source.SOPClassUID) for source in sources}
    for element in report.iterall():
        if element.keyword == "ReferencedSOPSequence":
            for item in element.value:
                item.ReferencedSOPClassUID = classes[str(item.ReferencedSOPInstanceUID)]
