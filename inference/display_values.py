"""From stored pixel values to display values: the grayscale pipeline of PS3.4 annex N.2.

pydicom's functions define the transformations. For images of up to 16 bits they are applied once to
every value that a pixel can have; the image is then one table look-up, exact and quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
)

from inference.errors import PixelsUnreadableError

PERCENTILES = (0.5, 99.5)
"""The window of an image that brings none, so that a marker or a defect doesn't set the scale."""
SAMPLE_PIXELS = 1_000_000
"""Percentiles are taken from about this many pixels."""

Values = NDArray[Any]
Display = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """Which values are shown from black to white, after Modality LUT."""

    center: float
    width: float
    function: str = "LINEAR"
    """VOI LUT Function: LINEAR, LINEAR_EXACT or SIGMOID"""

    @property
    def ends(self) -> tuple[float, float]:
        """What becomes black and what white (PS3.3 C.11.2.1.2.1); of SIGMOID nearly."""
        one = 1.0 if self.function == "LINEAR" else 0.0  # its window is counted in whole values
        middle, half = self.center - one / 2.0, (self.width - one) / 2.0
        return middle - half, middle + half


def color_values(pixels: Values, header: Dataset) -> Display:
    """Return RGB display values of a decoded colour image.

    Parameters
    ----------
    pixels
        [rows, columns, 3] in RGB, or [rows, columns] of PALETTE COLOR.
    header
        Image Pixel module.
    """
    if header.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, header)[..., :3]
        # many writers declare 16 bits and store 8 (PS3.3 C.7.6.3.1.5 wants the full range)
        top = 255 if pixels.dtype == np.uint8 or pixels.max(initial=0) < 256 else 65535
    else:
        top = 2 ** int(header.BitsStored) - 1
    return np.clip(pixels.astype(np.float32) / np.float32(top), 0.0, 1.0)


def gray_values(pixels: Values, header: Dataset) -> Display:
    """Return display values of a decoded MONOCHROME1 or MONOCHROME2 image.

    Without a usable VOI LUT or window, up to 8 bits are shown whole and more through a window from
    the 0.5th to the 99.5th percentile.

    Parameters
    ----------
    pixels
        [rows, columns], stored values.
    header
        Image Pixel, Modality LUT, VOI LUT and Presentation LUT Shape attributes of this frame.
    """
    pixels = np.ascontiguousarray(pixels)
    if not _fits_table(pixels):
        return _transform(pixels, pixels, header)
    codes = pixels.view(_unsigned(pixels.dtype))
    every_code = np.arange(2 ** (8 * codes.itemsize), dtype=codes.dtype)
    table = _transform(every_code.view(pixels.dtype), pixels, header)
    return cast(Display, table[codes])


def frame_header(header: Dataset, index: int = 0) -> Dataset:
    """Return a header with the values of one frame's functional groups at the top.

    Parameters
    ----------
    header
        Of an enhanced object (PS3.3 C.7.6.16); classic images come back as they are.
    index
        Of the frame, from 0.
    """
    groups = [
        header.get(keyword)[place]
        for keyword, place in (
            ("SharedFunctionalGroupsSequence", 0),
            ("PerFrameFunctionalGroupsSequence", index),
        )
        if header.get(keyword)
    ]
    flat = Dataset()
    flat.update(header)
    flat.file_meta = getattr(header, "file_meta", None)
    flat.set_original_encoding(*header.original_encoding)
    for group in groups:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            if group.get(keyword):
                flat.update(group.get(keyword)[0])
        if group.get("RealWorldValueMappingSequence"):
            flat.RealWorldValueMappingSequence = group.RealWorldValueMappingSequence
    return flat


def _fits_table(pixels: Values) -> bool:
    return pixels.dtype.kind in "iu" and pixels.itemsize <= 2


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")


def _transform(stored: Values, image: Values, header: Dataset) -> Display:
    """Return the display values of `stored`; `image` is what the percentiles are taken from."""
    values = _modality(stored, header)
    display = _by_voi(values, header)
    if display is None or not _shows_something(display, stored, image):
        display = _by_range(values, image, header)
    if _is_inverted(header):
        display = np.float32(1.0) - display
    display[_is_padding(stored, header)] = 0.0
    return display


def modality_values(pixels: Values, header: Dataset) -> Display:
    """Return stored values in the unit that they measure, float32.

    That is after the Modality LUT or rescale (PS3.3 C.11.1), or where there is none after the first
    real world value mapping (C.7.6.16.2.11), as some MR and PET have it.
    """
    if header.get("RealWorldValueMappingSequence") and not (
        header.get("ModalityLUTSequence") or header.get("RescaleSlope")
    ):
        return _real_world(pixels, header.RealWorldValueMappingSequence[0])
    return np.asarray(_modality(pixels, header), np.float32)


def _real_world(stored: Values, mapping: Dataset) -> Display:
    if mapping.get("RealWorldValueLUTData"):
        table = np.asarray(mapping.RealWorldValueLUTData, np.float32)
        places = stored.astype(np.int64) - int(mapping.RealWorldValueFirstValueMapped)
        return table[np.clip(places, 0, len(table) - 1)]
    slope, intercept = float(mapping.RealWorldValueSlope), float(mapping.RealWorldValueIntercept)
    return (stored * np.float64(slope) + intercept).astype(np.float32)


def _modality(stored: Values, header: Dataset) -> Values:
    if header.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, header)
    # A slope of 0 would make every pixel the same; some writers leave it at that for "none".
    if not header.get("RescaleSlope"):
        return stored
    if not np.isfinite([header.RescaleSlope, header.get("RescaleIntercept") or 0.0]).all():
        raise PixelsUnreadableError("Rescale Slope or Intercept is no number; correct the header.")
    return apply_modality_lut(stored, header)


def _by_voi(values: Values, header: Dataset) -> Display | None:
    """Return `values` through the first VOI LUT or window, or None without a usable one."""
    sequence = header.get("VOILUTSequence")
    if sequence and sequence[0].get("LUTData"):
        integers = np.rint(values).astype(np.int64)
        return _stretch(apply_voi(integers, header).astype(np.float64))
    window = window_of(header)
    if window is None:
        return None
    steps = Dataset()  # a fixed output range of [0, 65535], whatever the rescale
    steps.PhotometricInterpretation = "MONOCHROME2"
    steps.BitsStored, steps.PixelRepresentation = 16, 0
    steps.WindowCenter, steps.WindowWidth = window.center, window.width
    steps.VOILUTFunction = window.function
    return (apply_windowing(values, steps) / 65535.0).astype(np.float32)


def window_of(header: Dataset) -> Window | None:
    """Return an image's first window (PS3.3 C.11.2.1.2), or None without a usable one.

    Parameters
    ----------
    header
        Of a classic image, or of one frame as :func:`frame_header` gives it.
    """
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is None or width is None or not np.isfinite([center, width]).all():
        return None
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        function = "LINEAR"
    # PS3.3 C.11.2.1.2.1: LINEAR needs a width of 1 or more, the others more than 0; with a width
    # of exactly 1 LINEAR is a threshold, which no one wants to look at
    if width <= (1.0 if function == "LINEAR" else 0.0):
        return None
    return Window(center, width, function)


def _first(value: Any) -> float | None:
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        items = [value] if isinstance(value, str) else list(value)
        value = items[0] if items else None
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _shows_something(display: Display, stored: Values, image: Values) -> bool:
    """Tell whether a window leaves any contrast in an image that has some."""
    low, high = image.min(), image.max()
    if low == high:
        return True
    within = display[(stored >= low) & (stored <= high)]
    return bool(within.max() > within.min())


def _by_range(values: Values, image: Values, header: Dataset) -> Display:
    bits = int(header.get("BitsStored") or 16)
    if _fits_table(image) and bits <= 8:
        low = -(2 ** (bits - 1)) if header.get("PixelRepresentation") == 1 else 0
        ends = _modality(np.array([low, low + 2**bits - 1], image.dtype), header)
        return _scale(values, float(ends.min()), float(ends.max()))
    step = max(1, int((image.size / SAMPLE_PIXELS) ** 0.5))
    sample = image[::step, ::step]
    sample = sample[~_is_padding(sample, header)]
    sample = _modality(sample, header).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return np.zeros(values.shape, np.float32)
    low_value, high_value = np.percentile(sample, PERCENTILES)
    if low_value == high_value:  # nearly all pixels are alike: what differs still has to show
        low_value, high_value = sample.min(), sample.max()
    return _scale(values, float(low_value), float(high_value))


def _stretch(values: NDArray[np.float64]) -> Display:
    return _scale(values, float(values.min()), float(values.max()))


def _scale(values: Values, low: float, high: float) -> Display:
    if high <= low:
        return np.zeros(values.shape, np.float32)
    scaled = (values.astype(np.float64) - low) / (high - low)
    return np.clip(np.nan_to_num(scaled), 0.0, 1.0).astype(np.float32)


def _is_inverted(header: Dataset) -> bool:
    """Tell whether low values are bright: MONOCHROME1, or INVERSE (PS3.3 C.11.6.1.2).

    The standard wants both or neither; where a writer sets only one, it still means inversion.
    """
    return (
        header.get("PhotometricInterpretation") == "MONOCHROME1"
        or str(header.get("PresentationLUTShape") or "").strip().upper() == "INVERSE"
    )


def _is_padding(stored: Values, header: Dataset) -> NDArray[np.bool_]:
    """Tell which values are Pixel Padding (PS3.3 C.7.5.1.1.2); they are background, not tissue."""
    first = header.get("PixelPaddingValue")
    if not isinstance(first, int) or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, np.bool_)
    last = header.get("PixelPaddingRangeLimit")
    ends = [_as_stored(one, stored.dtype) for one in (first, last) if isinstance(one, int)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """Read `value` as `dtype`: with the wrong VR a negative number looks like a large one."""
    bits = 8 * dtype.itemsize
    code = value & (2**bits - 1)
    is_negative = dtype.kind == "i" and code >= 2 ** (bits - 1)
    return code - 2**bits if is_negative else code
