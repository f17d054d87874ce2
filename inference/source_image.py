"""An image as models and result pictures see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.domain import InstanceFacts


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image in display values, with its header.

    Attributes
    ----------
    array
        float32 [rows, columns] or [rows, columns, 3] (RGB) in [0, 1]: what a viewer would show with
        0 = black and 1 = white, after Modality LUT, VOI LUT and polarity (PS3.4 annex N.2). In a
        radiograph dense tissue is bright, whatever the Photometric Interpretation.
    display
        The same as uint8 [0, 255].
    facts
        What the header says; for PNG and JPEG all UIDs and the modality are ``""``.
    dataset
        The DICOM header without its pixel data; None for PNG and JPEG.
    """

    array: NDArray[np.float32]
    display: NDArray[np.uint8]
    facts: InstanceFacts
    dataset: Dataset | None

    @classmethod
    def of(
        cls, array: NDArray[np.float32], facts: InstanceFacts, dataset: Dataset | None
    ) -> SourceImage:
        """Make one from display values; `display` follows from them."""
        display = (array * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)
        return cls(array, display, facts, dataset)

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return int(self.array.shape[0])

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return int(self.array.shape[1])
