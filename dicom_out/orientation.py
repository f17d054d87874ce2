"""Which way the rows and columns of an image run through the patient (PS3.3 C.7.6.1.1.1)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset

from dicom_out.patient import read_element
from dicom_out.planes import read_geometry

_NEGLIGIBLE = 0.1
"""Share of a direction, about 6 degrees, that gets no letter."""
_LETTERS = ("RL", "AP", "FH")
_OPPOSITES = str.maketrans("RLAPFH", "LRPAHF")


def patient_orientation(source: Dataset, frame: int | None = None) -> tuple[str, str] | None:
    """Return where row and column run to, such as ``("L", "P")``; None if nothing tells.

    Parameters
    ----------
    source
        Header of the image.
    frame
        Number of the frame, from 1, if it is an enhanced multi-frame image.
    """
    stated = read_element(source, "PatientOrientation")
    if stated is not None and stated.VM == 2 and all(stated.value):
        return str(stated.value[0]), str(stated.value[1])
    cosines = read_geometry(source, frame, "ImageOrientationPatient")
    if cosines is None or len(cosines) != 6:
        return None
    numbers = [float(value) for value in cosines]
    row, column = _towards(numbers[:3]), _towards(numbers[3:])
    return (row, column) if row and column else None


def opposite(direction: str) -> str:
    """Return the other end of a direction: ``R`` of ``L``, ``AF`` of ``PH``."""
    return direction.translate(_OPPOSITES)


def _towards(cosines: Sequence[float]) -> str:
    """Return the letters of a direction, the main one first."""
    parts = sorted(zip(cosines, _LETTERS, strict=True), key=lambda part: -abs(part[0]))
    return "".join(pair[part > 0] for part, pair in parts if abs(part) > _NEGLIGIBLE)
