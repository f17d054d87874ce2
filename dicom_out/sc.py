"""What was found, as an RGB Secondary Capture that every viewer can show (PS3.3 A.8.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_out import codes
from dicom_out.laterality import copy_laterality
from dicom_out.measurements import spacing_mm
from dicom_out.model_result import ImageResult, ModelDescription, VolumeResult
from dicom_out.orientation import patient_orientation
from dicom_out.patient import LONG_STRING, read_valid
from dicom_out.pixels import set_pixels
from dicom_out.render import render_image, render_montage, render_slice, slices_that_matter
from dicom_out.series import ResultSeries, code_item, finish
from dicom_out.words import statements, texts
from ledger.product import PRODUCT

SERIES_NUMBER = 9002
"""Behind the report's series."""

_COPIED = (
    "PatientOrientation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


@dataclass(frozen=True, slots=True)
class Capture:
    """A picture of a result.

    Attributes
    ----------
    picture
        uint8 [rows, columns, 3].
    title
        What viewers call its series.
    kind
        How it was made.
    places
        Header of each image that it shows, the main one first, and which frame of it or None.
    said
        What is to be known beside it, in words.
    caption
        In short, for a page that shows it.
    """

    picture: NDArray[np.uint8]
    title: str
    kind: str
    places: tuple[tuple[Dataset, int | None], ...]
    said: tuple[str, ...]
    caption: str


def captures_of_images(results: Sequence[ImageResult], model: ModelDescription) -> list[Capture]:
    """Return a picture of each image."""
    return [
        _capture_of_image(result, number if len(results) > 1 else 0, model)
        for number, result in enumerate(results, 1)
    ]


def _capture_of_image(result: ImageResult, number: int, model: ModelDescription) -> Capture:
    prediction = result.prediction
    title, kind = "AI heatmap", "No heatmap"
    if prediction.boxes or prediction.segments:
        title, kind = "AI picture", "Boxes and outlines"
    elif prediction.heatmap is not None:
        kind = f"Grad-CAM of layer {prediction.heatmap.layer}"
    return Capture(
        picture=render_image(result, model),
        title=title,
        kind=kind,
        places=((result.source, None),),
        said=tuple(texts(statements(result))),
        caption=f"{f'Image {number}: ' if number else ''}{kind}",
    )


def captures_of_volume(result: VolumeResult, model: ModelDescription) -> list[Capture]:
    """Return a montage of the slices that matter, then each of them."""
    said = tuple(texts(statements(result)))
    picture, shown = render_montage(result, model)
    many = f"Outlines on {len(shown)} slices"

    def capture(picture: NDArray[np.uint8], kind: str, indices: Sequence[int]) -> Capture:
        return Capture(
            picture=picture,
            title="AI picture",
            kind=kind,
            places=tuple(result.place_of(index) for index in indices),
            said=said,
            caption=kind,
        )

    return [
        capture(picture, many, shown),
        *(
            capture(render_slice(result, index, model), f"Outlines on slice {index + 1}", [index])
            for index in slices_that_matter(result)
        ),
    ]


def encode_capture(
    capture: Capture,
    number: int,
    *,
    model: ModelDescription,
    identity: Dataset,
    series: ResultSeries,
) -> Dataset:
    """Return a picture as a data set with file meta information.

    Parameters
    ----------
    capture
        Its texts fit the identity's character set.
    number
        Instance Number in the series, from 1.
    model, identity, series
        As for :func:`dicom_out.sr.encode_report`.
    """
    source, frame = capture.places[0]
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = series.sop_instance_uid(number)
    ds.Modality = "OT"
    ds.SeriesNumber = SERIES_NUMBER
    ds.SeriesDescription = f"{capture.title}: {model.name}, not reviewed"[:LONG_STRING]
    ds.InstanceNumber = number
    _copy_from(source, frame, ds)
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    made_by = f"{model.name} {model.identity.version}, sha256 {model.identity.digest}"
    ds.DerivationDescription = f"{capture.kind}; {made_by}"[:1024]
    ds.ImageComments = " ".join(capture.said)[:10240]
    ds.SourceImageSequence = ItemSequence([_reference(*place) for place in capture.places])
    finish(ds, source=source, identity=identity, model=model, series=series)
    ds.SecondaryCaptureDeviceManufacturer = PRODUCT
    ds.SecondaryCaptureDeviceManufacturerModelName = ds.ManufacturerModelName
    ds.SecondaryCaptureDeviceSoftwareVersions = ds.SoftwareVersions
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    set_pixels(ds, capture.picture)
    aspect = _aspect_ratio(source, frame)
    if aspect is not None:
        ds.PixelAspectRatio = aspect
    return ds


def _aspect_ratio(source: Dataset, frame: int | None) -> list[int] | None:
    """Return Pixel Aspect Ratio (0028,0034) where pixels are no squares."""
    spacing = spacing_mm(source, frame)
    if spacing is None or abs(spacing[0] / spacing[1] - 1) < 0.01:
        return None
    return [round(1000 * spacing[0] / spacing[1]), 1000]


def _copy_from(source: Dataset, frame: int | None, ds: Dataset) -> None:
    """Keep what tells left from right, and that pixels were compressed with loss before."""
    for keyword in _COPIED:
        element = read_valid(source, keyword)
        if element is not None:
            ds.add(element)
    if "PatientOrientation" not in ds:
        sides = patient_orientation(source, frame)
        ds.PatientOrientation = list(sides) if sides else ""
    copy_laterality(source, ds)


def _reference(source: Dataset, frame: int | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.PurposeOfReferenceCodeSequence = ItemSequence([code_item(codes.SOURCE_FOR_PROCESSING)])
    return item
