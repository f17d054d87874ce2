"""The report on paper as an Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import EncapsulatedPDFStorage

from dicom_out import codes
from dicom_out.model_result import ModelDescription
from dicom_out.patient import LONG_STRING, read_text
from dicom_out.pdf import ReportPicture, report_pdf
from dicom_out.sc import Capture
from dicom_out.series import ResultSeries, code_item, finish
from dicom_out.words import Statement
from ledger.domain import PatientFacts

SERIES_NUMBER = 9004
"""Behind the segmentations' series."""


def encode_document(
    rows: Sequence[tuple[str, Statement]],
    captures: Sequence[Capture],
    sources: Sequence[Dataset],
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return the report as a PDF, in a data set with file meta information.

    Parameters
    ----------
    rows
        Where and what was said, as for :func:`dicom_out.pdf.report_pdf`.
    captures
        The pictures.
    sources
        Headers of the images that it is about.
    model, identity, series
        As for :func:`dicom_out.sr.encode_report`.
    """
    paper = report_pdf(
        patient_facts(identity),
        model,
        rows,
        [ReportPicture(capture.picture, capture.caption) for capture in captures],
        created=series.now,
    )
    ds = Dataset()
    ds.SOPClassUID = EncapsulatedPDFStorage
    ds.SOPInstanceUID = series.sop_instance_uid(1)
    ds.Modality = "DOC"
    ds.SeriesNumber, ds.InstanceNumber = SERIES_NUMBER, 1
    ds.SeriesDescription = f"AI report (PDF): {model.name}, not reviewed"[:LONG_STRING]
    ds.ConversionType = "SYN"
    ds.BurnedInAnnotation = "YES"  # the patient's name is in the page
    ds.DocumentTitle = f"AI report: {model.name}, not reviewed"
    ds.ConceptNameCodeSequence = ItemSequence([code_item(codes.IMAGING_MEASUREMENT_REPORT)])
    ds.SourceInstanceSequence = ItemSequence([_reference(source) for source in sources])
    finish(ds, source=sources[0], identity=identity, model=model, series=series)
    ds.AcquisitionDateTime = ""
    ds.VerificationFlag = "UNVERIFIED"
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(paper)
    ds.EncapsulatedDocument = paper + b"\x00" * (len(paper) % 2)
    return ds


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return item


def patient_facts(identity: Dataset) -> PatientFacts:
    """Return Patient and Study attributes as plain values."""
    keywords = {
        "patient_id": "PatientID",
        "patient_name": "PatientName",
        "patient_birth_date": "PatientBirthDate",
        "patient_sex": "PatientSex",
        "accession_number": "AccessionNumber",
        "study_date": "StudyDate",
        "study_time": "StudyTime",
        "study_description": "StudyDescription",
    }
    return PatientFacts(**{name: read_text(identity, word) for name, word in keywords.items()})
