"""Written results in compressed transfer syntaxes, without loss."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from imagecodecs import htj2k_encode
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless

from dicom_out.errors import ResultCheckError
from dicom_out.model_result import ResultObject


def encode_as(item: ResultObject, transfer_syntax_uid: str) -> ResultObject | None:
    """Return a result with its pixels compressed; None if it has none that can be.

    Reports and documents have no pixels. Single bits (BINARY segmentations) go uncompressed only:
    none of the codecs takes them (PS3.5 section 8.2).

    Parameters
    ----------
    item
        Written and checked, Explicit VR Little Endian.
    transfer_syntax_uid
        RLE Lossless, JPEG-LS Lossless or HTJ2K Lossless.

    Raises
    ------
    ResultCheckError
        The pixels read again are not those that were written.
    """
    ds = dcmread(io.BytesIO(item.data))
    if "PixelData" not in ds or ds.BitsAllocated == 1:
        return None
    pixels = ds.pixel_array
    if transfer_syntax_uid == HTJ2KLossless:
        _compress_htj2k(ds, pixels)
    else:
        ds.compress(transfer_syntax_uid, generate_instance_uid=False)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    if not np.array_equal(_pixels(data), pixels):
        raise ResultCheckError("PIXELS_DIFFER", "compression changed its pixels.")
    return replace(item, data=data, transfer_syntax_uid=transfer_syntax_uid)


def _compress_htj2k(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    """Put in HTJ2K code streams (PS3.5 section 8.2.4); pydicom decodes but doesn't write them."""
    frames = pixels if int(ds.get("NumberOfFrames", 1)) > 1 else pixels[np.newaxis]
    in_colour = ds.SamplesPerPixel == 3
    streams = [htj2k_encode(np.ascontiguousarray(frame), reversible=True) for frame in frames]
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    if in_colour:
        ds.PhotometricInterpretation = "YBR_RCT"
        ds.PlanarConfiguration = 0
    ds.file_meta.TransferSyntaxUID = HTJ2KLossless


def _pixels(data: bytes) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = dcmread(io.BytesIO(data)).pixel_array
    return pixels
