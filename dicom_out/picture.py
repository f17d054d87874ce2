"""A PNG or JPEG as a DICOM object, so that a picture's results have a source they can refer to."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out.errors import PictureError
from dicom_out.patient import UTF_8
from dicom_out.pixels import set_pixels
from dicom_out.series import file_meta_of
from dicom_out.uids import derive_uid
from ledger.domain import PatientFacts
from ledger.product import PRODUCT

MAX_SIDE = 65535
"""Rows (0028,0010) and Columns (0028,0011) are unsigned 16-bit numbers."""


def picture_to_dicom(
    array: NDArray[np.uint8],
    *,
    seed: str,
    now: datetime,
    modality: str = "OT",
    patient: PatientFacts | None = None,
) -> FileDataset:
    """Return a picture as a Secondary Capture image with file meta information.

    Parameters
    ----------
    array
        uint8 [rows, columns] (0 = black) or [rows, columns, 3] (RGB).
    seed
        Decides the UIDs, such as the sha256 of the picture's file.
    now
        When the picture was turned into DICOM; Study Date unless the patient has one.
    modality
        What made the picture, if that is known (CID 29).
    patient
        Whose it is; nobody's by default.

    Raises
    ------
    PictureError
        No image has this shape or type.
    """
    _refuse(array)
    ds = new_object(SecondaryCaptureImageStorage, "picture", seed)
    describe_upload(ds, now=now, patient=patient)
    ds.Modality = modality
    ds.Laterality = ""
    ds.InstanceNumber = 1
    ds.ConversionType = "DI"  # digital interface, PS3.3 C.8.6.1
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    set_pixels(ds, array)
    return ds


def describe_upload(ds: FileDataset, *, now: datetime, patient: PatientFacts | None) -> None:
    """Fill in Patient, Study, dates and equipment of an object made from another kind of file."""
    patient = patient or PatientFacts()
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.SpecificCharacterSet = UTF_8
    ds.PatientName, ds.PatientID = patient.patient_name, patient.patient_id
    ds.PatientBirthDate, ds.PatientSex = patient.patient_birth_date, patient.patient_sex
    ds.StudyDate, ds.StudyTime = patient.study_date or date, patient.study_time or time
    ds.StudyID, ds.AccessionNumber = "", patient.accession_number
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = patient.study_description
    ds.SeriesNumber = 1
    ds.ContentDate = ds.SeriesDate = ds.InstanceCreationDate = date
    ds.ContentTime = ds.SeriesTime = ds.InstanceCreationTime = time
    ds.Manufacturer = PRODUCT


def _refuse(array: NDArray[np.uint8]) -> None:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise PictureError("The picture must be 8-bit grey or RGB; convert it first.")
    if not 0 < min(array.shape[:2]) <= max(array.shape[:2]) <= MAX_SIDE:
        raise PictureError(f"The picture must have 1 to {MAX_SIDE} rows and columns; resize it.")


def new_object(sop_class_uid: str, kind: str, seed: str, number: str = "") -> FileDataset:
    """Return a data set with its identifying UIDs; `kind` and `seed` decide study and series."""
    ds = FileDataset("", {}, preamble=b"\x00" * 128)
    parts = (kind, seed, "instance", number) if number else (kind, seed, "instance")
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class_uid, derive_uid(*parts)
    ds.StudyInstanceUID = derive_uid(kind, seed, "study")
    ds.SeriesInstanceUID = derive_uid(kind, seed, "series")
    ds.file_meta = file_meta_of(ds)
    return ds
