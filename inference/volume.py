"""A series as one block of voxels with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


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
        One header a slice, without pixel data, in the order of the slices.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    headers: tuple[Dataset, ...]

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
    def sop_instance_uids(self) -> tuple[str, ...]:
        """SOP Instance UIDs of the slices."""
        return tuple(str(header.SOPInstanceUID) for header in self.headers)
