"""PNG and JPEG files: what people upload, and what public data sets are made of."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from inference.errors import ImageTooLargeError, PixelsUnreadableError
from inference.source_image import SourceImage
from ledger.domain import InstanceFacts

MAX_PIXELS = 50_000_000
GRAY_SPREAD = 1.0
"""Mean difference of the channels, of 255, below which a picture counts as grey."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_GRAY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


def read_picture(file: BinaryIO) -> SourceImage:
    """Read a PNG or JPEG as display values; turned upright by EXIF, transparency on black.

    16-bit PNG is full scale (65535 = white), unless its brightest sample has 12 bits or fewer:
    then it is raw detector data, and shown through the same percentiles as DICOM without a window.

    Raises
    ------
    ImageTooLargeError
        More than `MAX_PIXELS`; nothing was decoded.
    PixelsUnreadableError
        The file is damaged.
    """
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(file, formats=("PNG", "JPEG")) as image,
        ):
            _check_size(image.width * image.height)
            array = _values(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise PixelsUnreadableError(
            "The picture can't be decoded: it is damaged or incomplete; export it again."
        ) from error
    return SourceImage.of(array, _facts(array), None)


def _values(image: Image.Image) -> NDArray[np.float32]:
    if image.mode in _DEEP_MODES:
        return _deep_values(np.asarray(image, np.float64))
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(background, image.convert("RGBA")).convert(
            "L" if image.mode in _GRAY_MODES else "RGB"
        )
    image = image.convert("L" if image.mode in _GRAY_MODES else "RGB")
    if image.mode == "RGB" and _is_gray(np.asarray(image)):
        image = image.convert("L")
    values = np.asarray(image, np.float32)
    values /= np.float32(255.0)
    return values


def _is_gray(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether a colour picture shows grey: radiographs are often exported so."""
    return float((pixels.max(axis=2) - pixels.min(axis=2)).mean()) < GRAY_SPREAD


def _deep_values(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    low, high = 0.0, 65535.0
    if samples.max() < 4096:
        low, high = np.percentile(samples, (0.5, 99.5))
        if low == high:
            low, high = samples.min(), samples.max()
    if low == high:
        return np.zeros(samples.shape, np.float32)
    return np.clip((samples - low) / (high - low), 0.0, 1.0).astype(np.float32)


def _facts(array: NDArray[np.float32]) -> InstanceFacts:
    is_color = array.ndim == 3
    return InstanceFacts(
        study_instance_uid="",
        series_instance_uid="",
        sop_instance_uid="",
        sop_class_uid="",
        transfer_syntax_uid="",
        photometric_interpretation="RGB" if is_color else "MONOCHROME2",
        samples_per_pixel=3 if is_color else 1,
        rows=array.shape[0],
        columns=array.shape[1],
        has_pixel_data=True,
    )


def _check_size(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise _too_large()


def _too_large() -> ImageTooLargeError:
    return ImageTooLargeError(
        f"The picture has more than {MAX_PIXELS // 1_000_000} million pixels; reduce it first."
    )
