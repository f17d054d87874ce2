"""Whether planes in space make one even stack, and where its voxels lie. Pure.

Positions and directions are DICOM's: millimetres in the patient, LPS (PS3.3 section C.7.6.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import (
    DoubledPositionError,
    FramesOfReferenceDifferError,
    GantryTiltError,
    GeometryMissingError,
    OrientationsDifferError,
    PixelSpacingsDifferError,
    SizesDifferError,
    SliceGapError,
    TooFewSlicesError,
    UnevenSlicesError,
)
from ledger.domain import InstanceFacts
from ledger.slices import are_parallel, slice_normal

LARGEST_DEVIATION = 0.05
"""How far a slice may be from its place, as a share of the distance of slices."""
LARGEST_SHEAR = 0.02
"""How far a slice may be shifted sideways against its neighbour, as a share of their distance."""
_UNIT = 0.01

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one slice or frame lies. What a header doesn't say is ``()``."""

    position: tuple[float, ...]
    """Image Position (Patient): centre of the first pixel, mm."""
    orientation: tuple[float, ...]
    """Image Orientation (Patient): direction in which columns count up, then rows."""
    spacing_mm: tuple[float, ...]
    """Pixel Spacing: between rows, between columns."""
    size: tuple[int, int]
    """Rows, columns."""
    frame_of_reference_uid: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """Planes in order along their normal.

    Attributes
    ----------
    order
        Index of each plane among the given ones.
    affine
        float64 [4, 4]: (slice, row, column, 1) to millimetres in the patient.
    """

    order: tuple[int, ...]
    affine: Vector


def plane_of(facts: InstanceFacts) -> Plane:
    """Return where a single slice, or an object's first frame, lies."""
    return Plane(
        facts.image_position,
        facts.image_orientation,
        facts.pixel_spacing_mm,
        (facts.rows, facts.columns),
        facts.frame_of_reference_uid,
    )


def stack_of(planes: Sequence[Plane]) -> Stack:
    """Put planes in order.

    Raises
    ------
    NotAVolumeError
        One of its kinds: they make no even, straight stack.
    """
    if len(planes) < 2:
        raise TooFewSlicesError("The series has fewer than 2 slices; a volume needs more.")
    for plane in planes:
        _check(plane)
    _check_alike(planes)
    first = planes[0]
    across, down = _directions(first)
    normal = np.array(slice_normal((*across, *down)))
    places = np.array([plane.position for plane in planes], np.float64)
    order = np.argsort(places @ normal, kind="stable")
    affine = np.eye(4)
    affine[:3, 0] = _even_step(places[order], normal)
    affine[:3, 1], affine[:3, 2] = down * first.spacing_mm[0], across * first.spacing_mm[1]
    affine[:3, 3] = places[order[0]]
    return Stack(tuple(int(index) for index in order), affine)


def plane_name(orientation: Sequence[float]) -> str:
    """Return AXIAL, CORONAL or SAGITTAL, whichever is nearest; ``""`` without an orientation.

    OBLIQUE stands for one that is more than 45 degrees from each of them.
    """
    if len(orientation) != 6:
        return ""
    normal = np.abs(slice_normal(orientation))
    nearest = int(normal.argmax())
    if normal[nearest] <= np.sqrt(0.5) * np.linalg.norm(normal):
        return "OBLIQUE"
    return ("SAGITTAL", "CORONAL", "AXIAL")[nearest]


def _check(plane: Plane) -> None:
    for values, count, name in (
        (plane.position, 3, "ImagePositionPatient (0020,0032)"),
        (plane.orientation, 6, "ImageOrientationPatient (0020,0037)"),
        (plane.spacing_mm, 2, "PixelSpacing (0028,0030)"),
    ):
        if len(values) != count or not np.isfinite(values).all():
            raise GeometryMissingError(f"A slice of the series has no usable {name}.")
    if min(plane.spacing_mm) <= 0.0:
        raise GeometryMissingError("A slice of the series has pixels without a size.")
    across, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    lengths = np.linalg.norm([across, down], axis=1)
    if np.abs(lengths - 1.0).max() > _UNIT or abs(float(across @ down)) > _UNIT:
        raise GeometryMissingError("A slice's orientation (0020,0037) is not valid.")


def _check_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        if plane.size != first.size:
            raise SizesDifferError("The slices of the series have different sizes.")
        if plane.frame_of_reference_uid != first.frame_of_reference_uid:
            raise FramesOfReferenceDifferError(
                "The slices of the series have different frames of reference."
            )
        if not are_parallel(plane.orientation, first.orientation):
            raise OrientationsDifferError("The slices of the series are not parallel.")
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise PixelSpacingsDifferError(
                "The slices of the series have different pixel spacings."
            )


def _directions(plane: Plane) -> tuple[Vector, Vector]:
    """Return the directions in which columns and rows count up, unit vectors."""
    across, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    return across / np.linalg.norm(across), down / np.linalg.norm(down)


def _even_step(places: Vector, normal: Vector) -> Vector:
    """Return the vector from slice to slice of [slices, 3] in order."""
    step: Vector = (places[-1] - places[0]) / (len(places) - 1)
    distances = np.diff(places @ normal)
    usual = float(np.median(distances))
    if distances.min() < 0.01 * usual or usual <= 1e-6:
        raise DoubledPositionError("Two slices of the series lie at one place.")
    expected = places[0] + np.arange(len(places))[:, np.newaxis] * step
    along = np.abs((places - expected) @ normal)
    if along.max() > LARGEST_DEVIATION * float(step @ normal):
        _refuse_uneven(distances, usual)
    if np.linalg.norm(np.cross(step / np.linalg.norm(step), normal)) > LARGEST_SHEAR:
        raise GantryTiltError(
            "The stack is sheared (gantry tilt); only straight ones can be used: reformat it."
        )
    return step


def _refuse_uneven(distances: Vector, usual: float) -> None:
    steps = distances / usual
    whole = np.rint(steps)
    missing = int((whole - 1).sum())
    if missing > 0 and np.abs(steps - whole).max() <= LARGEST_DEVIATION * whole.max():
        number = int(np.argmax(whole)) + 1
        raise SliceGapError(
            f"The slices of the series are not evenly spaced: {missing} missing, most "
            f"behind slice {number} of {len(distances) + 1}; send the series again."
        )
    raise UnevenSlicesError(
        f"The slices of the series are not evenly spaced: from {distances.min():.2f} to "
        f"{distances.max():.2f} mm."
    )
