"""An array as the Image Pixel module (PS3.3 C.7.6.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


def set_pixels(ds: Dataset, array: NDArray[np.uint8] | NDArray[np.int16]) -> None:
    """Fill the Image Pixel module, uncompressed.

    Parameters
    ----------
    array
        uint8 [rows, columns] (0 = black), uint8 [rows, columns, 3] (RGB), or int16 [rows, columns].
    """
    in_colour = array.ndim == 3
    ds.SamplesPerPixel = 3 if in_colour else 1
    ds.PhotometricInterpretation = "RGB" if in_colour else "MONOCHROME2"
    if in_colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = array.shape[:2]
    bits = array.dtype.itemsize * 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(np.issubdtype(array.dtype, np.signedinteger))
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    ds.PixelData = data + b"\x00" * (len(data) % 2)  # even length, PS3.5 section 8.1.1
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
