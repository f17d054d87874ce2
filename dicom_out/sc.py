"""What was found, as an RGB Secondary Capture that every viewer can show (PS3.3 A.8.1)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.model_result import ImageResult, ModelDescription, VolumeResult, sentences
from dicom_out.patient import read_element, read_text
from dicom_out.render import render_montage, render_prediction
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
    """Return the picture of one image as a data set with file meta information.

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
    picture = render_prediction(result.display, prediction, result.source, model)
    spoken = sentences(prediction, result.source)
    title, kind = "AI heatmap", "No heatmap"
    if prediction.boxes or prediction.segments:
        title, kind = "AI picture", "Boxes and outlines"
    elif prediction.heatmap is not None:
        kind = f"Grad-CAM of layer {prediction.heatmap.layer}"
    about = _About(title, result.source, [result.source], number, spoken, kind)
    return _encode(picture, about, model=model, identity=identity, series=series)


def encode_montage(
    result: VolumeResult,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return one picture of the slices that matter in a series, with its segments."""
    picture, shown = render_montage(result, model)
    spoken = sentences(result.prediction, result.sources[0])
    slices = list({id(ds): ds for ds, _ in map(result.place_of, shown)}.values())
    about = _About("AI picture", slices[0], slices, 1, spoken, f"Outlines on {len(shown)} slices")
    return _encode(picture, about, model=model, identity=identity, series=series)


@dataclass(frozen=True, slots=True)
class _About:
    """What a picture shows: its main source, all sources, its number, and what it says."""

    title: str
    source: Dataset
    sources: list[Dataset]
    number: int
    sentences: list[str]
    kind: str


def _encode(
    picture: NDArray[np.uint8],
    about: _About,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = series.sop_instance_uid(about.number)
    ds.Modality = "OT"
    ds.SeriesNumber = SERIES_NUMBER
    ds.SeriesDescription = f"{about.title}: {model.name}, not reviewed"[:LONG_STRING]
    ds.InstanceNumber = about.number
    _copy_from(about.source, ds)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    made_by = f"{model.name} {model.identity.version}, sha256 {model.identity.digest}"
    ds.DerivationDescription = f"{about.kind}; {made_by}"[:1024]
    ds.ImageComments = " ".join(about.sentences)[:10240]
    ds.SourceImageSequence = ItemSequence([_reference(source) for source in about.sources])
    finish(ds, source=about.source, identity=identity, model=model, series=series)
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


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = ItemSequence([code_item(codes.SOURCE_FOR_PROCESSING)])
    return item
