import io

import numpy as np
import pydicom
import pytest

from dicom_out.errors import PictureError
from dicom_out.picture import picture_to_dicom
from dicom_out.results import encode_results
from ledger.domain import PatientFacts
from tests.dicom_out.factories import MODEL, NOW, image_result, read


def test_a_grey_picture_keeps_its_pixels_and_names_nobody() -> None:
    array = np.arange(35, dtype=np.uint8).reshape(5, 7)
    ds = picture_to_dicom(array, seed="a", now=NOW)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    again = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    assert np.array_equal(again.pixel_array, array)
    assert again.PatientName == ""
    assert again.PatientID == ""
    assert again.StudyDate == "20260304"


def test_a_colour_picture_keeps_its_pixels() -> None:
    array = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    ds = picture_to_dicom(array, seed="a", now=NOW)
    assert ds.PhotometricInterpretation == "RGB"
    assert np.array_equal(ds.pixel_array, array)


def test_given_patient_fields_are_used() -> None:
    patient = PatientFacts(
        patient_id="P1", patient_name="김^철수", study_date="20250101", study_description="Upload"
    )
    ds = picture_to_dicom(np.zeros((2, 2), np.uint8), seed="a", now=NOW, patient=patient)
    assert (ds.PatientID, ds.PatientName, ds.StudyDate) == ("P1", "김^철수", "20250101")
    assert ds.StudyDescription == "Upload"


def test_the_seed_decides_the_uids() -> None:
    def uids(seed: str) -> tuple[str, ...]:
        ds = picture_to_dicom(np.zeros((2, 2), np.uint8), seed=seed, now=NOW)
        return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID

    assert uids("a") == uids("a")
    assert len({*uids("a"), *uids("b")}) == 6


def test_results_can_be_written_of_a_picture() -> None:
    ds = picture_to_dicom(np.full((9, 9), 77, np.uint8), seed="a", now=NOW)
    report, capture = map(read, encode_results([image_result(ds)], model=MODEL, seed="a", now=NOW))
    assert report.StudyInstanceUID == capture.StudyInstanceUID == ds.StudyInstanceUID


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((2, 2, 4), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros((1, 65536), np.uint8),
    ],
)
def test_what_no_image_can_hold_is_refused(array: np.ndarray) -> None:
    with pytest.raises(PictureError):
        picture_to_dicom(array, seed="a", now=NOW)
