"""The gate: each kind of damage is caught, by its own code."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset, FileDataset

from dicom_out import results as writer
from dicom_out.checks import check_results
from dicom_out.errors import ResultCheckError
from dicom_out.model_result import ResultObject
from dicom_out.patient import read_identity
from dicom_out.results import encode_volume
from tests.dicom_out.factories import MODEL, NOW, encode, read, source
from tests.dicom_out.volumes import every_geometry

SOURCE = source()
REPORT, CAPTURE, PAPER = BUNDLE = encode(SOURCE)
VOLUME = every_geometry()["mr-oblique"]
SERIES = encode_volume(VOLUME, model=MODEL, seed="s", now=NOW)
SEGMENTATION = SERIES[1]


def rewritten(item: ResultObject, ds: FileDataset) -> ResultObject:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=False)
    return replace(item, data=buffer.getvalue())


def together(damaged: ResultObject, bundle: list[ResultObject]) -> list[ResultObject]:
    """The bundle with one object damaged."""
    return [damaged if item.kind == damaged.kind else item for item in bundle]


def problem(item: ResultObject, source: Dataset = SOURCE) -> str:
    with pytest.raises(ResultCheckError) as caught:
        check_results(together(item, BUNDLE), [source], read_identity(source))
    assert caught.value.code == "RESULT_CHECK_FAILED"
    return caught.value.problem


def groups(ds: Dataset) -> list[Dataset]:
    (measurements,) = (
        item
        for item in ds.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    )
    return list(measurements.ContentSequence)


def test_results_as_written_pass() -> None:
    check_results(BUNDLE, [SOURCE], read_identity(SOURCE))


def rename(ds: Dataset) -> None:
    ds.PatientName = "Somebody^Else"


def drop_name(ds: Dataset) -> None:
    del ds.PatientName


def drop_sex(ds: Dataset) -> None:
    del ds.PatientSex


def other_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.3"


def other_study_date(ds: Dataset) -> None:
    ds.StudyDate = "19990101"


def source_series(ds: Dataset) -> None:
    ds.SeriesInstanceUID = SOURCE.SeriesInstanceUID


def other_instance(ds: Dataset) -> None:
    ds.SOPInstanceUID = "1.2.3"


def broken_uid(ds: Dataset) -> None:
    with warnings.catch_warnings(action="ignore"):
        ds.ContributingEquipmentSequence[-1].DeviceUID = "1.02.3"


def drop_modality(ds: Dataset) -> None:
    del ds.Modality


def empty_modality(ds: Dataset) -> None:
    ds.Modality = ""


def verify(ds: Dataset) -> None:
    ds.VerificationFlag = "VERIFIED"


def drop_evidence(ds: Dataset) -> None:
    del ds.CurrentRequestedProcedureEvidenceSequence


def drop_coordinates(ds: Dataset) -> None:
    (group,) = groups(ds)
    group.ContentSequence = [i for i in group.ContentSequence if i.ValueType != "SCOORD"]


def drop_measurements(ds: Dataset) -> None:
    ds.ContentSequence = [
        item
        for item in ds.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning != "Imaging Measurements"
    ]


def foreign_reference(ds: Dataset) -> None:
    (group,) = groups(ds)
    (region,) = (item for item in group.ContentSequence if item.ValueType == "SCOORD")
    region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def name_predecessor(ds: Dataset) -> None:
    ds.PredecessorDocumentsSequence = ds.CurrentRequestedProcedureEvidenceSequence


def drop_tracking(ds: Dataset) -> None:
    (group,) = groups(ds)
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "UIDREF"]


def region_outside(ds: Dataset) -> None:
    (group,) = groups(ds)
    (region,) = (item for item in group.ContentSequence if item.ValueType == "SCOORD")
    region.GraphicData = [0, 0, 9999, 0, 9999, 9]


def negative_number(ds: Dataset) -> None:
    (group,) = groups(ds)
    (item, *_) = (item for item in group.ContentSequence if item.ValueType == "NUM")
    item.MeasuredValueSequence[0].NumericValue = "-1"


def other_algorithm(ds: Dataset) -> None:
    (group,) = groups(ds)
    (item,) = (
        item
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Algorithm Version"
    )
    item.TextValue = "9.9.9"


def foreign_frame(ds: Dataset) -> None:
    (group,) = groups(ds)
    (region,) = (item for item in group.ContentSequence if item.ValueType == "SCOORD")
    region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = 7


def drop_maker(ds: Dataset) -> None:
    del ds.ContributingEquipmentSequence[-1].DeviceUID


def drop_qualification(ds: Dataset) -> None:
    ds.ContentQualification = ""


def other_side(ds: Dataset) -> None:
    ds.PatientOrientation = ["R", "F"]


def cut_paper(ds: Dataset) -> None:
    ds.EncapsulatedDocument = ds.EncapsulatedDocument[:-40]


def drop_label(ds: Dataset) -> None:
    del ds.SegmentSequence[0].SegmentLabel


def other_frame_of_reference(ds: Dataset) -> None:
    ds.FrameOfReferenceUID = "1.2.3"


def shift(ds: Dataset) -> None:
    place = ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(value) + 0.5 for value in place.ImagePositionPatient]


def swap(ds: Dataset) -> None:
    one, two = ds.PerFrameFunctionalGroupsSequence[:2]
    one.DerivationImageSequence, two.DerivationImageSequence = (
        two.DerivationImageSequence,
        one.DerivationImageSequence,
    )


def foreign_source(ds: Dataset) -> None:
    ds.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def no_source(ds: Dataset) -> None:
    del ds.SourceImageSequence


def cut_pixels(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-2]


def more_rows(ds: Dataset) -> None:
    ds.Rows += 1


def no_conversion_type(ds: Dataset) -> None:
    del ds.ConversionType


def unknown_class(ds: Dataset) -> None:
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.3.4"


BOTH = [
    (rename, "IDENTITY_DIFFERS"),
    (drop_name, "ATTRIBUTE_MISSING"),
    (drop_sex, "ATTRIBUTE_MISSING"),
    (other_study, "STUDY_DIFFERS"),
    (other_study_date, "IDENTITY_DIFFERS"),
    (source_series, "UID_MISMATCH"),
    (other_instance, "UID_MISMATCH"),
    (broken_uid, "UID_INVALID"),
    (drop_modality, "ATTRIBUTE_MISSING"),
    (unknown_class, "UID_MISMATCH"),
    (drop_maker, "MAKER_MISSING"),
    (drop_qualification, "QUALIFICATION_MISSING"),
]
REPORTS = [
    (verify, "VERIFIED"),
    (empty_modality, "ATTRIBUTE_EMPTY"),
    (drop_evidence, "EVIDENCE_INCOMPLETE"),
    (drop_coordinates, "COORDINATES_MISSING"),
    (drop_measurements, "MEASUREMENTS_MISSING"),
    (foreign_reference, "REFERENCE_UNKNOWN"),
    (name_predecessor, "PREDECESSOR_DIFFERS"),
    (drop_tracking, "TRACKING_MISSING"),
    (region_outside, "REGION_OUTSIDE"),
    (negative_number, "NUMBER_INVALID"),
    (foreign_frame, "FRAME_UNKNOWN"),
    (other_algorithm, "MAKER_DIFFERS"),
]
CAPTURES = [
    (foreign_source, "REFERENCE_UNKNOWN"),
    (no_source, "REFERENCE_MISSING"),
    (cut_pixels, "PIXELS_INCOMPLETE"),
    (more_rows, "PIXELS_INCOMPLETE"),
    (no_conversion_type, "ATTRIBUTE_MISSING"),
    (other_side, "SIDE_DIFFERS"),
]
PAPERS = [
    (cut_paper, "DOCUMENT_INCOMPLETE"),
    (verify, "VERIFIED"),
    (no_conversion_type, "ATTRIBUTE_MISSING"),
]
SEGMENTATIONS = [
    (drop_label, "ATTRIBUTE_MISSING"),
    (other_frame_of_reference, "GEOMETRY_DIFFERS"),
    (shift, "GEOMETRY_DIFFERS"),
    (swap, "GEOMETRY_DIFFERS"),
    (cut_pixels, "PIXELS_INCOMPLETE"),
]
DAMAGES = [
    *((REPORT, *case) for case in BOTH + REPORTS),
    *((CAPTURE, *case) for case in BOTH + CAPTURES),
    *((PAPER, *case) for case in BOTH + PAPERS),
]


@pytest.mark.parametrize(
    ("item", "damage", "code"), DAMAGES, ids=[f"{d[0].kind}-{d[1].__name__}" for d in DAMAGES]
)
def test_damage_is_caught(item: ResultObject, damage: Callable[[Dataset], None], code: str) -> None:
    ds = read(item)
    damage(ds)
    assert problem(rewritten(item, ds)) == code


@pytest.mark.parametrize(("damage", "code"), SEGMENTATIONS)
def test_damage_to_a_segmentation_is_caught(damage: Callable[[Dataset], None], code: str) -> None:
    ds = read(SEGMENTATION)
    damage(ds)
    item, identity = rewritten(SEGMENTATION, ds), read_identity(VOLUME.sources[0])
    check_results(SERIES, VOLUME.sources, identity)
    with pytest.raises(ResultCheckError) as caught:
        check_results(together(item, SERIES), VOLUME.sources, identity)
    assert caught.value.problem == code
    assert code in str(caught.value)


@pytest.mark.parametrize("size", [0, 100, 700])
def test_bytes_that_are_cut_off_are_caught(size: int) -> None:
    assert problem(replace(REPORT, data=REPORT.data[:size])) in ("UNREADABLE", "UID_MISMATCH")


def test_a_source_series_is_never_joined() -> None:
    ds = read(CAPTURE)
    ds.SeriesInstanceUID = SOURCE.SeriesInstanceUID
    item = rewritten(replace(CAPTURE, series_instance_uid=str(SOURCE.SeriesInstanceUID)), ds)
    assert problem(item) == "SERIES_NOT_NEW"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_source_whose_uids_have_leading_zeros_still_gets_results() -> None:
    ds = source()
    ds.StudyInstanceUID, ds.SOPInstanceUID = "1.2.03.4", "1.2.03.4.5"
    report, capture, _ = map(read, encode(ds))
    assert report.StudyInstanceUID == "1.2.03.4"
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.03.4.5"


def test_a_result_that_fails_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    written = writer.encode_capture

    def damaged(*args: object, **kwargs: object) -> Dataset:
        ds = written(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        ds.PatientID = "SOMEBODY-ELSE"
        return ds

    monkeypatch.setattr(writer, "encode_capture", damaged)
    with pytest.raises(ResultCheckError) as caught:
        encode(source())
    assert caught.value.problem == "IDENTITY_DIFFERS"
    assert "SOMEBODY" not in str(caught.value)
