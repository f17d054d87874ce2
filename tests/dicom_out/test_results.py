"""What the results say, read again from their bytes."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timezone

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import UltrasoundMultiFrameImageStorage

from dicom_out.errors import ResultInputError
from dicom_out.model_result import Predecessor
from dicom_out.results import encode_results
from ledger.domain import Code, Finding
from pacsight.samples import SamplePatient
from tests.dicom_out.factories import (
    DIGEST,
    MODEL,
    NOW,
    as_received,
    encode,
    finding,
    image_result,
    read,
    source,
)

MINIMUM = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "SamplesPerPixel",
)


def items(ds: Dataset) -> list[Dataset]:
    """All content items of a report, flat."""
    found = []
    for item in ds.get("ContentSequence", ()):
        found += [item, *items(item)]
    return found


def named(ds: Dataset, meaning: str) -> list[Dataset]:
    return [
        item
        for item in items(ds)
        if item.get("ConceptNameCodeSequence")
        and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def number(item: Dataset) -> tuple[float, str]:
    value = item.MeasuredValueSequence[0]
    return float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue


def test_a_report_comes_first_then_one_capture_per_image() -> None:
    one, two = source(seed=1), source(seed=2)
    two.StudyInstanceUID = one.StudyInstanceUID
    written = encode(one, two)
    assert [item.kind for item in written] == ["sr", "sc", "sc", "pdf"]
    report, first, second, _ = map(read, written)
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert first.SOPClassUID.name == "Secondary Capture Image Storage"
    assert first.SeriesInstanceUID == second.SeriesInstanceUID != report.SeriesInstanceUID
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert (first.SeriesDate, first.SeriesTime) == (second.SeriesDate, second.SeriesTime)
    assert second.SourceImageSequence[0].ReferencedSOPInstanceUID == two.SOPInstanceUID


def test_results_join_the_study_in_new_series() -> None:
    ds = source()
    for item in encode(ds):
        result = read(item)
        assert result.StudyInstanceUID == ds.StudyInstanceUID
        assert result.SeriesInstanceUID != ds.SeriesInstanceUID
        assert result.AccessionNumber == ds.AccessionNumber
        assert result.StudyDescription == ds.StudyDescription
        assert (result.SeriesDate, result.SeriesTime) == ("20260304", "050607.890000")


def test_the_report_holds_finding_probability_threshold_and_verdict() -> None:
    report = read(encode(source())[0])
    (concept,) = named(report, "Finding")
    assert concept.ConceptCodeSequence[0].CodeValue == "233604007"
    assert number(named(report, "Probability")[0]) == (87.3, "%")
    assert number(named(report, "Operating threshold")[0]) == (42.0, "%")
    (verdict,) = named(report, "Result at threshold")
    assert verdict.ConceptCodeSequence[0].CodeMeaning == "Positive"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.ContentQualification == "RESEARCH"


def test_a_probability_below_the_threshold_is_negative_and_about_the_whole_image() -> None:
    ds = source()
    written = encode_results([image_result(ds, [finding(0.1)])], model=MODEL, seed="s", now=NOW)
    report = read(written[0])
    assert named(report, "Result at threshold")[0].ConceptCodeSequence[0].CodeMeaning == "Negative"
    (region,) = named(report, "Image Region")
    corners = np.array(region.GraphicData).reshape(-1, 2)
    assert corners.max(0).tolist() == [80, 96]
    assert named(report, "Tracking Identifier")[0].TextValue.endswith("whole image")


def test_a_positive_finding_points_to_the_hot_region_of_its_heatmap() -> None:
    report = read(encode(source())[0])
    (region,) = named(report, "Image Region")
    points = np.array(region.GraphicData).reshape(-1, 2)
    assert region.GraphicType == "POLYLINE"
    assert np.array_equal(points[0], points[-1])
    assert np.allclose(points[:-1].mean(0), [0.3 * 80, 0.6 * 96], atol=2)
    assert "not a segmentation" in named(report, "Tracking Identifier")[0].TextValue


def test_every_finding_has_a_group_with_coordinates_and_its_own_tracking_uid() -> None:
    findings = [finding(), Finding("effusion", Code("60046008", "SCT", "Effusion"), 0.2, 0.5)]
    result = image_result(source(), findings)
    report = read(encode_results([result], model=MODEL, seed="s", now=NOW)[0])
    groups = named(report, "Measurement Group")
    assert len(groups) == 2
    assert all(named(group, "Image Region") for group in groups)
    uids = {named(group, "Tracking Unique Identifier")[0].UID for group in groups}
    assert len(uids) == 2


def test_highdicom_reads_the_report_back() -> None:
    ds = source()
    report = highdicom.sr.Comprehensive3DSR.from_dataset(read(encode(ds)[0]))
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.finding_type.meaning == "Pneumonia"
    assert [m.value for m in group.get_measurements()] == [87.3, 42.0]
    assert group.roi is not None
    assert group.tracking_identifier.startswith("Pneumonia, image 1")


def test_the_algorithm_and_its_weights_are_named_in_both_objects() -> None:
    report, capture, _ = map(read, encode(source()))
    assert named(report, "Algorithm Name")[0].TextValue == MODEL.name
    assert named(report, "Algorithm Version")[0].TextValue == "1.2.3"
    parameters = [item.TextValue for item in named(report, "Algorithm Parameters")]
    assert f"sha256={DIGEST}" in parameters
    assert "threshold=0.42" in parameters
    assert MODEL.device_uid == named(report, "Device Observer UID")[0].UID
    for ds in (report, capture):
        assert ds.Manufacturer == "Pacsight"
        assert ds.ManufacturerModelName == MODEL.name
        assert ds.SoftwareVersions[0] == "1.2.3"
        algorithm = ds.ContributingEquipmentSequence[-1]
        assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (algorithm.DeviceUID, algorithm.SoftwareVersions) == (MODEL.device_uid, "1.2.3")
        assert "CC-BY-4.0" in algorithm.ContributionDescription


def test_the_device_uid_follows_the_weights() -> None:
    other = replace(MODEL, identity=replace(MODEL.identity, digest="0" * 64))
    renamed = replace(MODEL, identity=replace(MODEL.identity, name="Another name"))
    assert other.device_uid != MODEL.device_uid
    assert renamed.device_uid == MODEL.device_uid


def test_the_report_says_in_words_what_it_is() -> None:
    report = read(encode(source())[0])
    words = [item.TextValue for item in named(report, "Conclusion") + named(report, "Comment")]
    text = " ".join(words)
    assert "Pneumonia: positive, probability 87.3 % (threshold 42.0 %)." in text
    assert "AI result - not reviewed" in text
    assert "For research use only; not a medical device." in text
    assert "Second look at frontal chest radiographs" in text


def test_the_procedure_is_the_source_s_own_if_it_codes_one() -> None:
    ds = source()
    assert named(read(encode(ds)[0]), "Procedure reported")[0].ConceptCodeSequence[0].CodeValue == (
        "43468-8"
    )
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "RPID2503", "RADLEX", "XR Chest"
    ds.ProcedureCodeSequence = ItemSequence([item])
    code = named(read(encode(ds)[0]), "Procedure reported")[0].ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("RPID2503", "RADLEX")


def test_a_class_without_frames_is_referenced_as_a_whole() -> None:
    ds = source()
    ds.NumberOfFrames = 3  # wrong in a DX
    (region,) = named(read(encode(ds)[0]), "Image Region")
    assert "ReferencedFrameNumber" not in region.ContentSequence[0].ReferencedSOPSequence[0]


def test_the_evidence_lists_every_image() -> None:
    one, two = source(seed=1), source(seed=2)
    two.StudyInstanceUID = one.StudyInstanceUID
    written = encode(one, two)
    report = read(written[0])
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    pictures = {item.sop_instance_uid for item in written if item.kind == "sc"}
    assert listed == {one.SOPInstanceUID, two.SOPInstanceUID, *pictures}
    shown = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in named(report, "Illustration of Finding")
    ]
    assert set(shown) == pictures


def test_the_capture_keeps_side_orientation_and_resolution() -> None:
    ds = source()
    ds.ImageLaterality = "L"
    capture = read(encode(ds)[1])
    assert list(capture.PatientOrientation) == ["L", "F"]
    assert capture.ImageLaterality == "L"
    assert capture.BodyPartExamined == "CHEST"
    assert capture.BurnedInAnnotation == "YES"
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY"]
    pixels = capture.pixel_array
    assert pixels.shape[2] == 3
    assert (pixels[0, 79] == 77).all()  # a cold corner of the picture, at its own place
    assert "AI heatmap" in capture.SeriesDescription


@pytest.mark.parametrize(
    ("part", "side", "expected"),
    [
        ("CHEST", "", ("CHEST", None)),
        ("CHEST", "L", (None, "L")),
        ("HAND", "R", ("HAND", "R")),
        ("HAND", "B", ("HAND", "")),
        ("WHOLE BODY", "", ("WHOLE BODY", "")),
        ("", "", (None, "")),
    ],
)
def test_a_side_stays_and_is_not_named_beside_a_part_without_sides(
    part: str, side: str, expected: tuple[str | None, str | None]
) -> None:
    ds = source(modality="CR")
    ds.BodyPartExamined, ds.Laterality = part, side
    capture = read(encode(ds)[1])
    assert (capture.get("BodyPartExamined"), capture.get("Laterality")) == expected


def test_an_odd_number_of_bytes_is_padded() -> None:
    ds = source(rows=1, columns=1001)
    capture = read(encode(ds)[1])
    assert len(capture.PixelData) % 2 == 0
    assert capture.pixel_array.shape[1] == 1001


def test_lossy_compression_of_the_source_is_not_forgotten() -> None:
    ds = source()
    ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", 12
    assert read(encode(ds)[1]).LossyImageCompression == "01"


def test_a_multi_frame_source_is_referenced_by_its_first_frame() -> None:
    ds = source()
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.NumberOfFrames = 3
    report = read(encode(ds)[0])
    (region,) = named(report, "Image Region")
    reference = region.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 1


def test_the_same_input_gives_the_same_bytes() -> None:
    assert [item.data for item in encode(source())] == [item.data for item in encode(source())]


def test_another_day_changes_dates_only() -> None:
    result = image_result(source())
    later = datetime(2027, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
    one = encode_results([result], model=MODEL, seed="s", now=NOW)
    two = encode_results([result], model=MODEL, seed="s", now=later)
    for mine, yours in zip(map(read, one), map(read, two), strict=True):
        different = {element.keyword for element in mine if element != yours[element.tag]}
        assert different
        dated = {"EncapsulatedDocument", "EncapsulatedDocumentLength"}  # the page says when
        assert all("Date" in word or "Time" in word for word in different - dated)


def test_another_seed_gives_other_uids() -> None:
    mine, yours = encode(source(), seed="a"), encode(source(), seed="b")
    uids = {item.sop_instance_uid for item in mine + yours}
    series = {item.series_instance_uid for item in mine + yours}
    assert len(uids) == len(series) == 6


def test_the_tracking_uid_outlives_a_revision() -> None:
    mine, yours = read(encode(source(), seed="a")[0]), read(encode(source(), seed="b")[0])
    name = "Tracking Unique Identifier"
    assert named(mine, name)[0].UID == named(yours, name)[0].UID


def test_a_report_names_the_one_that_it_supersedes() -> None:
    earlier = encode(source(), seed="a")[0]
    gone = Predecessor(earlier.sop_class_uid, earlier.sop_instance_uid, earlier.series_instance_uid)
    written = encode_results(
        [image_result(source())], model=MODEL, seed="b", now=NOW, supersedes=[gone]
    )
    (study,) = read(written[0]).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert study.StudyInstanceUID == source().StudyInstanceUID
    assert series.SeriesInstanceUID == earlier.series_instance_uid
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == earlier.sop_instance_uid


def test_times_are_in_the_time_zone_that_the_study_declares() -> None:
    ds = source()
    ds.TimezoneOffsetFromUTC = "-0330"
    report = read(encode(ds)[0])
    assert report.TimezoneOffsetFromUTC == "-0330"
    assert (report.ContentDate, report.ContentTime) == ("20260304", "003607.890000")


def test_a_source_without_optional_attributes_has_results() -> None:
    ds = source(modality="CR")
    bare = Dataset()
    for keyword in MINIMUM:
        bare[keyword] = ds[keyword]
    report, capture, _ = map(read, encode(bare))
    assert report.PatientName == ""
    assert report.StudyDate == ""
    assert capture.Laterality == ""


def test_attributes_out_of_form_do_not_stop_the_results() -> None:
    ds = source(modality="CR")
    raw = {
        "PatientBirthDate": b"1970.01.02",
        "PatientAge": b"fifty-six ",
        "StudyTime": b"25:99 ",
        "ImagerPixelSpacing": b"0.14583333333333334\\0.14583333333333334 ",
        "PatientWeight": b"heavy ",
    }
    ds.PatientWeight = 70
    again = as_received(ds)
    for keyword, value in raw.items():
        element = again.get_item(keyword)
        again[element.tag] = element._replace(value=value, length=len(value))
    report = read(encode(again)[0])
    assert report.PatientBirthDate == "19700102"  # the old form of a date
    assert "PatientAge" not in report
    assert "PatientWeight" not in report
    assert report.StudyTime == ""  # required, so present
    for item in items(report):
        for value in item.get("MeasuredValueSequence", ()):
            assert len(str(value["NumericValue"].value.original_string)) <= 16
    assert number(named(report, "Vertical Pixel Spacing")[0])[0] == pytest.approx(0.1458333)


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.6", "1.2.276.0.99.1"])
def test_retired_and_private_sop_classes_are_referenced_by_their_own_uid(sop_class: str) -> None:
    ds = source()
    ds.SOPClassUID = sop_class
    report, capture, _ = map(read, encode(ds))
    (region,) = named(report, "Image Region")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    for reference in (
        region.ContentSequence[0].ReferencedSOPSequence[0],
        listed,
        capture.SourceImageSequence[0],
    ):
        assert reference.ReferencedSOPClassUID == sop_class


def test_predictions_that_do_not_belong_together_are_refused() -> None:
    result = image_result(source())
    other_study = image_result(source(seed=99))
    other = replace(result.prediction, sop_instance_uids=("1.2.3",))
    other_image = replace(result, prediction=other)
    silent = replace(result, prediction=replace(result.prediction, findings=()))
    off_grid = replace(result, display=np.zeros((5, 5), np.uint8))
    for wrong in ([], [result, other_study], [other_image], [silent], [off_grid]):
        with pytest.raises(ResultInputError):
            encode_results(wrong, model=MODEL, seed="s", now=NOW)


def test_two_patients_in_one_study_are_refused() -> None:
    one = source(seed=1)
    two = source(seed=2, patient=SamplePatient("Other^Person", "OTHER"))
    two.StudyInstanceUID = one.StudyInstanceUID
    two.ReferencedPatientSequence = [Dataset()]  # differs too, and comes first
    with pytest.raises(ResultInputError, match="several patients"):
        encode(one, two)


def test_logs_hold_no_patient(caplog: pytest.LogCaptureFixture) -> None:
    patient = SamplePatient("Geheim^Person", "SECRET-1")
    with caplog.at_level(logging.DEBUG):
        encode(source(patient=patient))
    assert caplog.text
    assert "Geheim" not in caplog.text
    assert "SECRET-1" not in caplog.text
