"""NIfTI files as volumes, and masks as NIfTI files: RAS there, LPS here."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from inference.errors import NotAnImageError, NotAVolumeError
from inference.stack import LARGEST_SHEAR
from inference.volume import Volume, check_voxels

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_BROKEN_NIFTI = (
    EOFError,
    HeaderDataError,
    ImageFileError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
MAX_EXTENSIONS_BYTES = 1 << 24
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI file; its axes k, j, i become slices, rows and columns, RAS becomes LPS.

    Of a fourth axis (time) the first volume is read; :attr:`Volume.volumes` tells how many
    there are.

    Raises
    ------
    NotAnImageError
        It is no NIfTI file, or damaged.
    NotAVolumeError
        It has not three or four axes, or values that are no numbers.
    VolumeTooLargeError
        It has more voxels than can be handled.
    """
    try:
        _check_start(path)
        image = nibabel.load(path)
        shape = tuple(size for axis, size in enumerate(image.shape) if axis < 3 or size > 1)
        if len(shape) not in {3, 4} or min(shape) < 2:
            raise NotAVolumeError(
                f"The NIfTI file has the shape {' x '.join(map(str, image.shape))}; a volume of "
                "three axes, or four with time, is needed."
            )
        shape, volumes = shape[:3], shape[3] if len(shape) == 4 else 1
        check_voxels(math.prod(shape))
        if image.get_data_dtype().kind not in "iuf":
            raise NotAVolumeError("The NIfTI file's voxels are no plain numbers; convert it.")
        first = (
            image.dataobj[(..., *[0] * (len(image.shape) - 3))] if volumes > 1 else image.dataobj
        )
        values = np.asarray(first, np.float32).reshape(shape)
        affine = np.asarray(image.affine, np.float64)
    except _BROKEN_NIFTI as error:
        raise NotAnImageError("The file is not a whole NIfTI volume.") from error
    if not np.isfinite(values).all():
        raise NotAVolumeError("The volume has voxels that are no numbers (NaN); repair it first.")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NotAVolumeError("The volume's affine can't be used; give its voxels a size.")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() > LARGEST_SHEAR:
        raise NotAVolumeError("The volume is sheared; only voxels with right angles can be used.")
    lps = (_RAS_TO_LPS @ affine)[:, [2, 1, 0, 3]]
    return Volume(np.ascontiguousarray(values.transpose(2, 1, 0)), lps, volumes=volumes)


@dataclass(frozen=True, slots=True)
class _Head:
    """What the header says of its size: axes, and where the voxels begin, in bytes."""

    shape: tuple[int, ...]
    start: float


def count_voxels(path: Path) -> int:
    """Return the voxels of the first volume as the header has them; nothing else is read.

    Raises
    ------
    NotAnImageError
        There is no NIfTI header.
    """
    try:
        return math.prod(max(0, size) for size in _head(path).shape[:3])
    except _BROKEN_NIFTI as error:
        raise NotAnImageError("The file is not a whole NIfTI volume.") from error


def _head(path: Path) -> _Head:
    is_packed = path.name.endswith(".gz")
    with gzip.open(path) if is_packed else path.open("rb") as file:
        head = file.read(176)
    order = "<" if int.from_bytes(head[:4], "little") in (348, 540) else ">"
    if struct.unpack_from(f"{order}i", head) == (540,):  # NIfTI-2
        axes, *sizes = struct.unpack_from(f"{order}8q", head, 16)
        (start,) = struct.unpack_from(f"{order}q", head, 168)
    else:
        axes, *sizes = struct.unpack_from(f"{order}8h", head, 40)
        (start,) = struct.unpack_from(f"{order}f", head, 108)
    return _Head(tuple(sizes[:axes]), start)


def _check_start(path: Path) -> None:
    """Check that the voxels begin near the header: a packed file may hold gigabytes in between."""
    if not 0 <= _head(path).start <= MAX_EXTENSIONS_BYTES:
        raise NotAnImageError(
            f"The NIfTI file has more than {MAX_EXTENSIONS_BYTES >> 20} MB before its voxels."
        )


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
