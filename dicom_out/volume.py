"""A volume without headers (NIfTI) as a series of DICOM slices, for its results to refer to."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from dicom_out.errors import PictureError
from dicom_out.picture import MAX_SIDE, describe_upload, new_object
from dicom_out.pixels import set_pixels
from dicom_out.uids import derive_uid
from ledger.domain import PatientFacts

MAX_SLICES = 4096
LARGEST = 32767
"""Of a signed 16-bit number, PS3.3 C.7.6.3.1.1."""


def volume_to_dicom(
    array: NDArray[np.float32] | NDArray[np.int16],
    affine: NDArray[np.float64],
    *,
    seed: str,
    now: datetime,
    patient: PatientFacts | None = None,
) -> list[FileDataset]:
    """Return the slices as MR images with file meta information, in the volume's order.

    Parameters
    ----------
    array
        [slices, rows, columns], finite. Whole numbers of 16 bits are kept; others are stretched
        over 16 bits, with Rescale Slope and Intercept that bring them back.
    affine
        [4, 4]: (slice, row, column, 1) to millimetres in the patient, DICOM's LPS.
    seed
        Decides the UIDs, such as the sha256 of the volume's file.
    now, patient
        As for :func:`dicom_out.picture.picture_to_dicom`.

    Raises
    ------
    PictureError
        The volume has a size or values that no series can have.
    """
    if array.ndim != 3 or not 0 < len(array) <= MAX_SLICES or max(array.shape[1:]) > MAX_SIDE:
        raise PictureError(f"The volume must have 1 to {MAX_SLICES} slices; cut it first.")
    if not np.isfinite(array).all():
        raise PictureError("The volume has values that are no numbers; repair it first.")
    stored, slope, intercept = _as_integers(array)
    low, high = np.percentile(array, (0.5, 99.5))
    across, down, through = (affine[:3, axis] for axis in (2, 1, 0))
    spacing = [float(np.linalg.norm(step)) for step in (down, across, through)]
    frame_of_reference = derive_uid("volume", seed, "frame of reference")
    series = []
    for index, plane in enumerate(stored):
        ds = new_object(MRImageStorage, "volume", seed, str(index))
        describe_upload(ds, now=now, patient=patient)
        ds.Modality = "MR"
        ds.InstanceNumber = index + 1
        ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = frame_of_reference, ""
        ds.PatientPosition = ""
        ds.ScanningSequence, ds.SequenceVariant = "RM", "NONE"  # research mode: not known
        ds.ScanOptions = ds.EchoTime = ds.RepetitionTime = ds.EchoTrainLength = ""
        ds.MRAcquisitionType = ""
        ds.PixelSpacing = [format_number_as_ds(spacing[0]), format_number_as_ds(spacing[1])]
        ds.SliceThickness = ds.SpacingBetweenSlices = format_number_as_ds(spacing[2])
        cosines = [*(across / spacing[1]), *(down / spacing[0])]
        ds.ImageOrientationPatient = [format_number_as_ds(value) for value in cosines]
        corner = affine @ np.array([index, 0, 0, 1.0])
        ds.ImagePositionPatient = [format_number_as_ds(value) for value in corner[:3]]
        ds.RescaleSlope, ds.RescaleIntercept = (
            format_number_as_ds(slope),
            format_number_as_ds(intercept),
        )
        ds.RescaleType = "US"
        ds.WindowCenter = format_number_as_ds((low + high) / 2)
        ds.WindowWidth = format_number_as_ds(max(high - low, 1.0))
        set_pixels(ds, plane)
        series.append(ds)
    return series


def _as_integers(
    array: NDArray[np.float32] | NDArray[np.int16],
) -> tuple[NDArray[np.int16], float, float]:
    """Return int16 values with the slope and intercept that bring the given ones back."""
    low, high = float(array.min()), float(array.max())
    if low >= -LARGEST and high <= LARGEST and np.array_equal(array, np.rint(array)):
        return array.astype(np.int16), 1.0, 0.0
    slope = (high - low) / (2 * LARGEST) or 1.0
    intercept = (high + low) / 2
    return np.rint((array - intercept) / slope).astype(np.int16), slope, intercept
