"""Synthetic studies: complete DICOM objects around generated pictures, for the demo and the tests.

No patient stands behind them. Everything follows from the seed, UIDs included, so a sample can be
made again byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from dicom_out.uids import derive_uid
from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsight.phantom import LEVELS, ct_slice, radiograph

DATE = "20260105"
"""Study Date of every sample."""
TIME = "101500"
"""Study Time of every sample."""


@dataclass(frozen=True, slots=True)
class SamplePatient:
    """Who a sample pretends to show.

    ``character_set`` holds the values of Specific Character Set (0008,0005), PS3.3 C.12.1.1.2.
    """

    patient_name: str = "Sample^Alice"
    patient_id: str = "SAMPLE-1"
    patient_birth_date: str = "20220102"
    patient_sex: str = "F"
    patient_age: str = "004Y"
    character_set: tuple[str, ...] = ("ISO_IR 192",)


def chest_radiograph(
    seed: int,
    *,
    consolidation: bool,
    rows: int = 1024,
    columns: int = 832,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    modality: Literal["DX", "CR"] = "DX",
    patient: SamplePatient | None = None,
    study_instance_uid: str | None = None,
) -> FileDataset:
    """Return a frontal (PA) chest radiograph with its file meta information.

    Parameters
    ----------
    seed
        Decides the picture and the UIDs.
    consolidation
        Whether one lower lung field carries an airspace opacity.
    rows, columns
        Size in pixels, from 1 up.
    photometric
        ``MONOCHROME1`` stores the picture inverted (PS3.3 C.7.6.3.1.2).
    modality
        ``DX`` writes Digital X-Ray Image Storage - For Presentation, ``CR`` Computed Radiography.
    patient
        Patient module; a made-up one by default.
    study_instance_uid
        Study to belong to; derived from the seed by default.
    """
    ds = _instance(
        DigitalXRayImageStorageForPresentation
        if modality == "DX"
        else ComputedRadiographyImageStorage,
        (modality, str(seed), str(consolidation), photometric, f"{rows}x{columns}"),
        patient or SamplePatient(),
        study_instance_uid,
    )
    ds.StudyID = str(seed)
    ds.AccessionNumber = f"S{seed:06d}"
    ds.StudyDescription = "Chest PA"
    ds.SeriesDescription = "PA"
    ds.Modality = modality
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"]
    pixels = radiograph(seed, consolidation=consolidation, rows=rows, columns=columns)
    if photometric == "MONOCHROME1":
        pixels = (LEVELS - pixels).astype(np.uint16)
    _set_pixels(ds, pixels, photometric, bits_stored=12)
    spacing = round(350 / max(rows, columns), 4)  # a 35 cm plate
    ds.ImagerPixelSpacing = [spacing, spacing]
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.KVP = 120
    ds.ExposureTime, ds.XRayTubeCurrent = 8, 250
    if modality == "DX":
        _add_dx_modules(ds, photometric)
    else:
        ds.PhotometricInterpretation = photometric
        ds.PlateID = ""
    return ds


def ct_series(
    seed: int,
    *,
    slices: int = 8,
    rows: int = 128,
    columns: int = 128,
    patient: SamplePatient | None = None,
    study_instance_uid: str | None = None,
) -> list[FileDataset]:
    """Return an axial thorax CT series, from the apices down.

    Parameters
    ----------
    seed
        Decides the pictures and the UIDs.
    slices
        Number of slices, 5 mm apart.
    rows, columns
        Size of each slice in pixels.
    patient, study_instance_uid
        As for :func:`chest_radiograph`.
    """
    frame_of_reference = derive_uid("sample", "CT", str(seed), "frame of reference")
    series: list[FileDataset] = []
    for number in range(slices):
        ds = _instance(
            CTImageStorage,
            ("CT", str(seed), f"{rows}x{columns}"),
            patient or SamplePatient(),
            study_instance_uid,
            number=number + 1,
        )
        ds.StudyID, ds.AccessionNumber = str(seed), f"S{seed:06d}"
        ds.StudyDescription, ds.SeriesDescription = "CT thorax", "Axial 5 mm"
        ds.Modality = "CT"
        ds.BodyPartExamined = "CHEST"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.PatientPosition = "HFS"
        ds.FrameOfReferenceUID = frame_of_reference
        ds.PositionReferenceIndicator = ""
        ds.PixelSpacing = [round(350 / rows, 4), round(350 / columns, 4)]
        ds.SliceThickness = 5
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-175, -175, -5.0 * number]
        ds.SliceLocation = -5.0 * number
        ds.KVP = 120
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        position = number / max(1, slices - 1)
        values = ct_slice(seed, position, rows=rows, columns=columns).astype(np.int32) + 1024
        _set_pixels(ds, values.astype(np.uint16), "MONOCHROME2", bits_stored=12)
        ds.WindowCenter, ds.WindowWidth = 40, 400
        series.append(ds)
    return series


def write_sample_studies(folder: Path) -> list[Path]:
    """Write the demo's studies below ``folder``, one folder each, and return those folders.

    A normal chest radiograph, one with a consolidation, another as inverted (MONOCHROME1) computed
    radiograph of a patient with a Korean name, and a CT to which no shipped model applies.
    """
    korean = SamplePatient(
        patient_name="Hong^Gildong=洪^吉洞=홍^길동",
        patient_id="SAMPLE-3",
        patient_sex="M",
        character_set=("ISO_IR 192",),
    )
    studies = {
        "1-chest-normal": [chest_radiograph(1, consolidation=False)],
        "2-chest-consolidation": [
            chest_radiograph(
                42,
                consolidation=True,
                patient=SamplePatient("Sample^Bruno", "SAMPLE-2", patient_sex="M"),
            )
        ],
        "3-chest-computed-radiography": [
            chest_radiograph(
                21, consolidation=True, photometric="MONOCHROME1", modality="CR", patient=korean
            )
        ],
        "4-ct-thorax": ct_series(4, patient=SamplePatient("Sample^Dora", "SAMPLE-4")),
    }
    folders: list[Path] = []
    for name, datasets in studies.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        for ds in datasets:
            ds.save_as(target / f"{ds.InstanceNumber:04d}.dcm", enforce_file_format=True)
        folders.append(target)
    return folders


def _instance(
    sop_class_uid: str,
    what: tuple[str, ...],
    patient: SamplePatient,
    study_instance_uid: str | None,
    number: int = 1,
) -> FileDataset:
    """Return a data set with Patient, Study, Series, Equipment and SOP Common filled in."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = sop_class_uid
    meta.MediaStorageSOPInstanceUID = derive_uid("sample", *what, "instance", str(number))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\x00" * 128)
    if patient.character_set:
        ds.SpecificCharacterSet = list(patient.character_set)
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = study_instance_uid or derive_uid("sample", *what, "study")
    ds.SeriesInstanceUID = derive_uid("sample", *what, ds.StudyInstanceUID, "series")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = TIME
    ds.PatientName = patient.patient_name
    ds.PatientID = patient.patient_id
    ds.PatientBirthDate = patient.patient_birth_date
    ds.PatientSex = patient.patient_sex
    ds.PatientAge = patient.patient_age
    ds.ReferringPhysicianName = "Sample^Referrer"
    ds.Manufacturer = "Pacsight"
    ds.ManufacturerModelName = "Sample generator"
    ds.SoftwareVersions = "1"
    ds.SeriesNumber = 1
    ds.AcquisitionNumber = 1
    ds.InstanceNumber = number
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.BurnedInAnnotation = "NO"
    return ds


def _set_pixels(
    ds: Dataset,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint16]],
    photometric: str,
    bits_stored: int,
) -> None:
    """Fill the Image Pixel module with unsigned values, [rows, columns]."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = photometric
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits_stored, bits_stored - 1
    ds.PixelRepresentation = 0
    ds.PixelData = pixels.astype("<u2").tobytes()


def _add_dx_modules(ds: Dataset, photometric: str) -> None:
    """Fill what a Digital X-Ray image needs beyond the rest (PS3.3 A.26)."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if photometric == "MONOCHROME1" else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.LossyImageCompression = "00"
    ds.ImageLaterality = "U"
    ds.DetectorType = "DIRECT"
    ds.PositionerType = "NONE"
    ds.AcquisitionDeviceProcessingDescription = ""
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "51185008", "SCT"
    region.CodeMeaning = "Chest"
    ds.AnatomicRegionSequence = Sequence([region])
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator = "399348003", "SCT"
    view.CodeMeaning = "postero-anterior"
    view.ViewModifierCodeSequence = Sequence([])
    ds.ViewCodeSequence = Sequence([view])
    ds.AcquisitionContextSequence = Sequence([])
