"""NIfTI files as volumes, and masks as NIfTI files: RAS there, LPS here."""

from __future__ import annotations

import math
import zlib
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
    zlib.error,
)
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
