"""A series as one block of voxels with its place in the patient, read from DICOM.

Slices are put in order by their position along the normal, never by name or Instance Number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray
from pydicom import Dataset

from inference.display_values import PERCENTILES, frame_header
from inference.errors import NotAVolumeError, VolumeTooLargeError
from inference.frames import frames_of
from inference.reading import open_image, read_frames
from inference.stack import Plane, plane_of, stack_of

MAX_VOXELS = 1 << 29
SAMPLE_VOXELS = 2_000_000
"""Percentiles are taken from about this many voxels."""
_INT16 = np.iinfo(np.int16)

Voxels = NDArray[np.float32] | NDArray[np.int16]
"""Values after Modality LUT: int16 where all of them are such whole numbers, as of CT."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A series of parallel slices.

    Attributes
    ----------
    array
        int16 or float32 [slices, rows, columns], values after Modality LUT (HU for CT).
    affine
        float64 [4, 4]: (slice, row, column, 1) to millimetres in the patient, DICOM's LPS.
    headers
        The header of each slice, without pixel data, in the order of the slices; none from NIfTI.
        Slices that are frames of one object share its header.
    frame_numbers
        Of a multi-frame object the number (from 1) of the frame that each slice is; else none.
    volumes
        How many volumes the source holds, such as phases; this is the first one.
    """

    array: Voxels
    affine: NDArray[np.float64]
    headers: tuple[Dataset, ...] = ()
    frame_numbers: tuple[int, ...] = ()
    volumes: int = 1

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
        low, high = self.percentiles(*PERCENTILES)
        factor = np.float32(255.0 / max(high - low, 1e-6))
        shown = np.empty(self.array.shape, np.uint8)
        for number, plane in enumerate(self.array):
            scaled = (plane.astype(np.float32) - np.float32(low)) * factor
            shown[number] = np.clip(np.rint(scaled), 0, 255)
        return shown

    @property
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UID of each slice; one empty one without headers."""
        return tuple(str(header.SOPInstanceUID) for header in self.headers) or ("",)

    def percentiles(self, low: float, high: float) -> tuple[float, float]:
        """Return two percentiles of the values, taken from a sample where there are very many."""
        return percentiles_of(self.array, low, high)

    def slice_header(self, index: int) -> Dataset | None:
        """Return what is said of one slice, functional groups included; None from NIfTI."""
        if not self.headers:
            return None
        number = self.frame_numbers[index] if self.frame_numbers else 1
        return frame_header(self.headers[index], number - 1)


def percentiles_of(values: Voxels, low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of voxels, taken from a sample where there are very many."""
    step = max(1, values.size // SAMPLE_VOXELS)
    found = np.percentile(values.reshape(-1)[::step], (low, high))
    return float(found[0]), float(found[1])


def read_series(files: Iterable[BinaryIO]) -> Volume:
    """Read the slices of one series, or the frames of one enhanced multi-frame object.

    Parameters
    ----------
    files
        Open DICOM files that can seek, in any order; each is read before the next one is taken, so
        they may be opened one by one.

    Raises
    ------
    ImageError
        A slice can't be read; or one kind of NotAVolumeError: the slices are no even stack.
    """
    planes: list[Plane] = []
    values: list[Voxels] = []
    headers: list[Dataset] = []
    numbers: list[int] = []
    volumes = 1
    for file in files:
        image = open_image(file)
        if numbers:
            raise NotAVolumeError("The series has several multi-frame objects; send one of them.")
        if image.is_multi_frame:
            if planes:
                raise NotAVolumeError("The series has single slices and multi-frame objects.")
            frames, volumes = frames_of(image.dataset)
            numbers = [frame.number for frame in frames]
            planes = [frame.plane for frame in frames]
        else:
            planes.append(plane_of(image.facts))
        headers += [image.dataset] * (len(planes) - len(headers))
        check_voxels(sum(plane.size[0] * plane.size[1] for plane in planes))
        values += [_compact(plane) for plane in read_frames(file, image, numbers or [1])]
    stack = stack_of(planes)
    return Volume(
        _block(values, stack.order),
        stack.affine,
        tuple(headers[index] for index in stack.order),
        tuple(numbers[index] for index in stack.order) if numbers else (),
        volumes,
    )


def check_voxels(count: int) -> None:
    """Refuse to hold so many.

    Raises
    ------
    VolumeTooLargeError
        They are more than `MAX_VOXELS`.
    """
    if count > MAX_VOXELS:
        raise VolumeTooLargeError(f"The series has more than {MAX_VOXELS >> 20} M voxels.")


def _compact(plane: NDArray[np.float32]) -> Voxels:
    """Return int16 if that loses nothing."""
    if not np.isfinite(plane).all():
        raise NotAVolumeError("The series has voxels that are no numbers; repair it first.")
    if plane.min() < _INT16.min or plane.max() > _INT16.max:
        return plane
    whole = plane.astype(np.int16)
    return whole if np.array_equal(whole, plane) else plane


def _block(values: list[Voxels], order: tuple[int, ...]) -> Voxels:
    """Put planes together; each is let go as soon as it is copied."""
    is_whole = all(plane.dtype == np.int16 for plane in values)
    block = np.empty((len(order), *values[0].shape), np.int16 if is_whole else np.float32)
    for place, index in enumerate(order):
        block[place] = values[index]
        values[index] = values[index][:0]
    return block


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
