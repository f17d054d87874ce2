"""How large what a model has found is, where the size of a pixel in the patient is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from scipy.ndimage import binary_erosion, label
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from dicom_out import codes
from dicom_out.model_result import VolumeResult
from dicom_out.patient import read_element, read_text
from dicom_out.planes import read_geometry
from ledger.domain import Box, Segment

Spacing = tuple[float, float]
"""Millimetres from row to row and from column to column."""

_CENTIMETRES = 3  # Physical Units X Direction (0018,6024), PS3.3 C.8.5.5.1.15


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: what, how much, and its UCUM unit."""

    name: Code
    value: float
    unit: Code

    @property
    def text(self) -> str:
        """The value for people, such as ``12.3 ml``."""
        digits = 0 if self.unit == codes.PIXELS or self.value >= 100 else 1
        unit = "pixels" if self.unit == codes.PIXELS else self.unit.value
        return f"{self.value:.{digits}f} {unit}"


def measure_box(box: Box, source: Dataset) -> tuple[Measured, ...]:
    """Return area and longer side of a box; nothing if pixels have no known size."""
    spacing = spacing_mm(source)
    if spacing is None:
        return ()
    height, width = (box.y_max - box.y_min) * spacing[0], (box.x_max - box.x_min) * spacing[1]
    return _area(height * width), _long_axis(max(height, width))


def measure_outline(segment: Segment, source: Dataset) -> tuple[Measured, ...]:
    """Return area and long axis of a region on one image; in pixels if they have no known size."""
    pixels, spacing = int(segment.mask.sum()), spacing_mm(source)
    if spacing is None:
        return (Measured(codes.AREA, pixels, codes.PIXELS),)
    area = _area(pixels * spacing[0] * spacing[1])
    return (area, _long_axis(longest_diameter(segment.mask, spacing))) if pixels else (area,)


def measure_volume(segment: Segment, result: VolumeResult) -> tuple[Measured, ...]:
    """Return volume of a segment of a series, and the long axis on its largest slice."""
    found = []
    if segment.volume_ml is not None:
        found.append(Measured(codes.VOLUME, round(segment.volume_ml, 3), codes.MILLILITRE))
    index = largest_slice(segment)
    spacing = spacing_mm(*result.place_of(index))
    if spacing is not None:
        found.append(_long_axis(longest_diameter(segment.mask[index], spacing)))
    return tuple(found)


def largest_slice(segment: Segment) -> int:
    """Return the position of the slice that most of a segment lies on."""
    return int(np.argmax([np.count_nonzero(plane) for plane in segment.mask]))


def longest_diameter(mask: NDArray[np.bool_], spacing: Spacing) -> float:
    """Return the longest distance, edge to edge, within the largest connected part of a mask.

    Parameters
    ----------
    mask
        [rows, columns], with at least one true pixel.
    spacing
        Millimetres from row to row and from column to column.
    """
    parts, count = label(mask, np.ones((3, 3)))
    if count > 1:
        mask = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    rim = np.argwhere(mask & ~binary_erosion(mask))
    middles = ((0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0))  # of each pixel's four edges
    points = np.concatenate([rim + middle for middle in middles]) * np.asarray(spacing, np.float64)
    return float(pdist(points[ConvexHull(points).vertices]).max())


def spacing_mm(source: Dataset, frame: int | None = None) -> Spacing | None:
    """Return the size of a pixel in the patient; None if unknown, as on a projection's detector.

    Parameters
    ----------
    source
        Header of the image.
    frame
        Number of the frame, from 1, if it is an enhanced multi-frame image.
    """
    stated = read_geometry(source, frame, "PixelSpacing")
    if stated is None:
        return _ultrasound_spacing(source)
    try:
        down, across = (float(value) for value in stated)
    except (TypeError, ValueError):
        return None
    return (down, across) if down > 0 and across > 0 else None


def _ultrasound_spacing(source: Dataset) -> Spacing | None:
    """Return the calibration of an ultrasound image that has one region only (PS3.3 C.8.5.5)."""
    regions = read_element(source, "SequenceOfUltrasoundRegions")
    if regions is None or regions.VR != "SQ" or len(regions.value) != 1:
        return None
    (region,) = regions.value
    units = (read_text(region, f"PhysicalUnits{axis}Direction") for axis in "XY")
    if any(unit != str(_CENTIMETRES) for unit in units):
        return None
    down, across = (abs(float(region.get(f"PhysicalDelta{axis}", 0))) * 10 for axis in "YX")
    return (down, across) if down > 0 and across > 0 else None


def _area(square_mm: float) -> Measured:
    return Measured(codes.AREA, round(square_mm, 3), codes.SQUARE_MILLIMETRE)


def _long_axis(length_mm: float) -> Measured:
    return Measured(codes.LONG_AXIS, round(length_mm, 3), codes.MILLIMETRE)
