"""The heatmap as an RGB Secondary Capture: what every viewer can show (PS3.3 A.8.1)."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.heatmap import render_heatmap
from dicom_out.model_result import ImageResult, ModelDescription, sentence
from dicom_out.patient import read_element, read_text
from dicom_out.series import LONG_STRING, ResultSeries, code_item, finish
from ledger.product import PRODUCT

SERIES_NUMBER = 9002
"""Behind the report's series."""

_COPIED = (
    "BodyPartExamined",
    "PatientOrientation",
    "ImageLaterality",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def encode_capture(
    result: ImageResult,
    number: int,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return the heatmap of one image as a data set with file meta information.

    Parameters
    ----------
    result
        The image; its texts fit the identity's character set.
    number
        Instance Number in the series, from 1.
    model, identity, series
        As for :func:`dicom_out.sr.encode_report`.
    """
    prediction = result.prediction
    picture = render_heatmap(result.display, prediction.heatmap, prediction.findings, model)
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = series.sop_instance_uid(number)
    ds.Modality = "OT"
    ds.SeriesNumber = SERIES_NUMBER
    ds.SeriesDescription = f"AI heatmap: {model.name}, not reviewed"[:LONG_STRING]
    ds.InstanceNumber = number
    _copy_from(result.source, ds)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = _derivation(result, model)
    ds.ImageComments = " ".join(sentence(finding) for finding in prediction.findings)[:10240]
    ds.SourceImageSequence = ItemSequence([_reference(result.source)])
    finish(ds, source=result.source, identity=identity, model=model, series=series)
    ds.SecondaryCaptureDeviceManufacturer = PRODUCT
    ds.SecondaryCaptureDeviceManufacturerModelName = ds.ManufacturerModelName
    ds.SecondaryCaptureDeviceSoftwareVersions = ds.SoftwareVersions
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    set_rgb(ds, picture)
    return ds


def set_rgb(ds: Dataset, picture: NDArray[np.uint8]) -> None:
    """Fill the Image Pixel module with RGB values, uint8 [rows, columns, 3]."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(picture).tobytes()
    ds.PixelData = data + b"\x00" * (len(data) % 2)  # even length, PS3.5 section 8.1.1
    ds["PixelData"].VR = "OB"


def _copy_from(source: Dataset, ds: Dataset) -> None:
    """Keep what tells left from right, and that pixels were compressed with loss before."""
    for keyword in _COPIED:
        element = read_element(source, keyword)
        if element is not None and not element.is_empty:
            ds.add(copy.deepcopy(element))
    if "PatientOrientation" not in ds:
        ds.PatientOrientation = ""
    laterality = read_text(source, "Laterality")
    if laterality:
        ds.Laterality = laterality
    elif "BodyPartExamined" not in ds:
        ds.Laterality = ""  # type 2C: required unless the body part is known to be unpaired


def _derivation(result: ImageResult, model: ModelDescription) -> str:
    heatmap = result.prediction.heatmap
    kind = f"Grad-CAM of layer {heatmap.layer}" if heatmap else "No heatmap"
    return f"{kind}; {model.name} {model.identity.version}, sha256 {model.identity.digest}"[:1024]


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = ItemSequence([code_item(codes.SOURCE_FOR_PROCESSING)])
    return item
