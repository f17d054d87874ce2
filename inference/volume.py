"""A series as one block of voxels with its place in the patient: from DICOM slices or NIfTI.

Slices are put in order by their position along the normal, never by name or Instance Number.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from pydicom import Dataset

from inference.errors import NotAnImageError, NotAVolumeError, VolumeTooLargeError
from inference.reading import read_slice

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 1 << 29
LARGEST_GAP = 0.05
"""How far a slice may be from its place, as a share of the distance of slices."""
_ANGLE = 1e-3
_SHEAR = 0.02
_BROKEN_NIFTI = (
    EOFError,
    HeaderDataError,
    ImageFileError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    zlib.error,
)
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Volume:
    """A series of parallel slices.

    Attributes
    ----------
    array
        float32 [slices, rows, columns], values after Modality LUT (HU for CT).
    affine
        float64 [4, 4]: (slice, row, column, 1) to millimetres in the patient, DICOM's LPS.
    headers
        One header a slice, without pixel data, in the order of the slices; none from NIfTI.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    headers: tuple[Dataset, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels: slices, rows, columns."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def display(self) -> NDArray[np.uint8]:
        """Grey values for people, uint8 [slices, rows, columns]: 0.5 % to 99.5 % of all voxels."""
        low, high = np.percentile(self.array, (0.5, 99.5))
        scaled = (self.array - low) * (255.0 / max(high - low, 1e-6))
        return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs of the slices; one empty one without headers."""
        return tuple(str(header.SOPInstanceUID) for header in self.headers) or ("",)


def read_series(files: Iterable[BinaryIO]) -> Volume:
    """Read the slices of one series.

    Parameters
    ----------
    files
        Open DICOM files that can seek, one slice each, in any order; each is read before the next
        one is taken, so they may be opened one by one.

    Raises
    ------
    ImageError
        A slice can't be read; or NotAVolumeError: the slices are no even stack.
    """
    slices: list[tuple[NDArray[np.float32], Dataset]] = []
    voxels = 0
    for file in files:
        slices.append(read_slice(file))
        voxels += slices[-1][0].size
        if voxels > MAX_VOXELS:
            raise VolumeTooLargeError(f"The series has more than {MAX_VOXELS >> 20} M voxels.")
    if len(slices) < 2:
        raise NotAVolumeError("The series has fewer than 2 slices; a volume needs more.")
    headers = [header for _, header in slices]
    _check_alike(headers)
    across, down = _orientation(headers[0])
    normal = np.cross(across, down)
    places = np.array([_vector(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(places @ normal, kind="stable")
    step = _even_step(places[order], normal)
    between = _vector(headers[0], "PixelSpacing", 2)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = step, down * between[0]
    affine[:3, 2], affine[:3, 3] = across * between[1], places[order[0]]
    array = np.stack([slices[index][0] for index in order])
    if not np.isfinite(array).all():
        raise NotAVolumeError("The series has voxels that are no numbers; repair it first.")
    return Volume(array, affine, tuple(headers[index] for index in order))


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; its axes k, j, i become slices, rows and columns, RAS becomes LPS.

    Raises
    ------
    NotAnImageError
        It is no NIfTI file, or damaged.
    NotAVolumeError
        It has not three axes, or values that are no numbers.
    VolumeTooLargeError
        It has more voxels than can be handled.
    """
    try:
        image = nibabel.load(path)
        shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
        if len(shape) != 3 or min(shape) < 2:
            raise NotAVolumeError(
                f"The NIfTI file has the shape {' x '.join(map(str, image.shape))}; a volume of "
                "three axes is needed."
            )
        if np.prod(shape, dtype=np.int64) > MAX_VOXELS:
            raise VolumeTooLargeError(f"The volume has more than {MAX_VOXELS >> 20} M voxels.")
        if image.get_data_dtype().kind not in "iuf":
            raise NotAVolumeError("The NIfTI file's voxels are no plain numbers; convert it.")
        values = np.asarray(image.dataobj, np.float32).reshape(shape)
        affine = np.asarray(image.affine, np.float64)
    except _BROKEN_NIFTI as error:
        raise NotAnImageError("The file is not a whole NIfTI volume.") from error
    if not np.isfinite(values).all():
        raise NotAVolumeError("The volume has voxels that are no numbers (NaN); repair it first.")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NotAVolumeError("The volume's affine can't be used; give its voxels a size.")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() > _SHEAR:
        raise NotAVolumeError("The volume is sheared; only voxels with right angles can be used.")
    lps = (_RAS_TO_LPS @ affine)[:, [2, 1, 0, 3]]
    return Volume(np.ascontiguousarray(values.transpose(2, 1, 0)), lps)


def write_nifti(path: Path, mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> None:
    """Write a mask as NIfTI: 1 inside, on the grid that :func:`read_nifti` read.

    Parameters
    ----------
    mask
        [slices, rows, columns].
    affine
        As in :class:`Volume`.
    """
    ras = _RAS_TO_LPS @ affine[:, [2, 1, 0, 3]]
    values = mask.transpose(2, 1, 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, ras), path)


def to_canonical(
    volume: Volume,
) -> tuple[Volume, Callable[[NDArray[np.bool_]], NDArray[np.bool_]]]:
    """Turn and mirror a volume: slices run to the head, rows to the back, columns to the left.

    Models see every volume this way, however it was scanned or stored. Nothing is resampled.

    Returns
    -------
    tuple
        The volume (without headers), and what brings a mask of it back to the given grid.
    """
    nifti = volume.affine[:, [2, 1, 0, 3]]  # nibabel counts i, j, k; in LPS its R and A are L and P
    ornt = io_orientation(nifti)
    wanted = axcodes2ornt(("R", "A", "S"))
    turn = ornt_transform(ornt, wanted)
    values = volume.array.transpose(2, 1, 0)
    affine = nifti @ inv_ornt_aff(turn, values.shape)
    turned = np.ascontiguousarray(apply_orientation(values, turn).transpose(2, 1, 0))
    back = ornt_transform(wanted, ornt)

    def restore(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.ascontiguousarray(
            apply_orientation(mask.transpose(2, 1, 0), back).transpose(2, 1, 0)
        )

    return replace(volume, array=turned, affine=affine[:, [2, 1, 0, 3]], headers=()), restore


def _check_alike(headers: Sequence[Dataset]) -> None:
    """Refuse slices of different size, orientation, spacing or frame of reference."""
    first = headers[0]
    direction = np.concatenate(_orientation(first))
    spacing = _vector(first, "PixelSpacing", 2)
    for header in headers[1:]:
        if (header.Rows, header.Columns) != (first.Rows, first.Columns):
            raise NotAVolumeError("The slices of the series have different sizes.")
        if header.get("FrameOfReferenceUID") != first.get("FrameOfReferenceUID"):
            raise NotAVolumeError("The slices of the series have different frames of reference.")
        if np.abs(np.concatenate(_orientation(header)) - direction).max() > _ANGLE:
            raise NotAVolumeError("The slices of the series are not parallel.")
        if not np.allclose(_vector(header, "PixelSpacing", 2), spacing, rtol=1e-3):
            raise NotAVolumeError("The slices of the series have different pixel spacings.")


def _orientation(header: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions in which columns and rows count up, unit vectors in LPS."""
    cosines = _vector(header, "ImageOrientationPatient", 6)
    across, down = cosines[:3], cosines[3:]
    if abs(np.linalg.norm(across) - 1) > 0.01 or abs(np.linalg.norm(down) - 1) > 0.01:
        raise NotAVolumeError("A slice's orientation (0020,0037) is not valid.")
    return across / np.linalg.norm(across), down / np.linalg.norm(down)


def _even_step(places: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector from slice to slice; refuse doubled places, gaps and sheared stacks."""
    step = (places[-1] - places[0]) / (len(places) - 1)
    distance = float(step @ normal)
    if distance <= 1e-6:
        raise NotAVolumeError("All slices of the series lie at one place.")
    expected = places[0] + np.arange(len(places))[:, np.newaxis] * step
    along = np.abs((places - expected) @ normal)
    if np.diff(places @ normal).min() < 0.01 * distance:
        raise NotAVolumeError("Two slices of the series lie at one place.")
    if along.max() > LARGEST_GAP * distance:
        raise NotAVolumeError("The slices of the series are not evenly spaced; one may be missing.")
    if np.linalg.norm(np.cross(step / np.linalg.norm(step), normal)) > _SHEAR:
        raise NotAVolumeError("The stack is sheared (gantry tilt); only straight ones can be used.")
    return step


def _vector(header: Dataset, keyword: str, length: int) -> NDArray[np.float64]:
    try:
        values = np.array([float(value) for value in header[keyword].value], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise NotAVolumeError(f"A slice of the series has no usable {keyword}.") from error
    if len(values) != length or not np.isfinite(values).all():
        raise NotAVolumeError(f"A slice of the series has no usable {keyword}.")
    return values
