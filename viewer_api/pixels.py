"""Pixels for the viewer: values that a browser can window, and layers to lay over them."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicom_out.overlays import colour_of
from inference.display_values import PERCENTILES, Window, frame_header, window_of
from inference.reading import open_image, read_display, read_frames
from ledger.domain import InstanceFacts
from ledger.errors import StoreMissingError
from ledger.store import Store
from ledger.tables import PredictionRow
from viewer_api.errors import PageNotFoundError

LEVELS = 65535
ANSWERS_KEPT = 4
"""Predictions whose arrays stay in memory, so that scrolling doesn't unpack a volume each time."""
HEAT_FROM = 0.15
"""Below this share of the hottest place the heatmap is clear."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """An image's bytes, compressed by zlib, and how to read them.

    Grey: uint16 little-endian [rows, columns], ``value = stored * slope + intercept``.
    Colour: uint8 [rows, columns, 3].
    """

    data: bytes
    about: dict[str, Any]

    @property
    def header(self) -> str:
        """``about`` as JSON in ASCII, for an HTTP header."""
        return json.dumps(self.about)


def read_pixels(file: BinaryIO, facts: InstanceFacts, frame: int = 1) -> Pixels:
    """Read an image of the spool, or one of its frames, from 1.

    Raises
    ------
    ImageError
        Or another coded error: it can't be shown, and why.
    """
    if not 1 <= frame <= max(1, facts.number_of_frames):
        raise PageNotFoundError("The image has no such frame.")
    opened = open_image(file)
    if facts.photometric_interpretation.startswith("MONOCHROME") and facts.samples_per_pixel <= 1:
        (values,) = read_frames(file, opened, [frame])
        return _grey(values, frame_header(opened.dataset, frame - 1))
    shown = np.rint(read_display(file, opened, frame) * 255).astype(np.uint8)
    rows, columns = shown.shape[:2]
    kind = "rgb" if shown.ndim == 3 else "grey8"
    return Pixels(
        zlib.compress(shown.tobytes(), 1), {"kind": kind, "rows": rows, "columns": columns}
    )


def _grey(values: NDArray[np.float32], header: Dataset) -> Pixels:
    low, high = float(values.min()), float(values.max())
    is_whole = high - low <= LEVELS and np.array_equal(values, np.rint(values))
    slope = 1.0 if is_whole else (high - low) / LEVELS
    stored = np.rint((values - low) / (slope or 1.0)).astype("<u2")
    window = _shown(values, header)
    spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    about = {
        "kind": "grey",
        "rows": values.shape[0],
        "columns": values.shape[1],
        "slope": slope or 1.0,
        "intercept": low,
        "center": window.center,
        "width": window.width,
        "invert": header.get("PhotometricInterpretation") == "MONOCHROME1",
        "spacing": [float(one) for one in spacing] if spacing and len(spacing) == 2 else None,
        "unit": "HU" if header.get("Modality") == "CT" else "",
    }
    return Pixels(zlib.compress(stored.tobytes(), 1), about)


def _shown(values: NDArray[np.float32], header: Dataset) -> Window:
    """Return the image's own window if it shows any of it, or else one from its values."""
    window = window_of(header)
    if window is not None:
        low, high = window.ends
        if low < values.max() and high > values.min():
            return window
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    return Window((low + high) / 2, max(high - low, 1.0))


def heatmap_png(row: PredictionRow, store: Store) -> bytes:
    """Return a prediction's heatmap in colour, clear where it is cold."""
    heat = _answer(store, row.artifact).heatmap
    if heat is None:
        raise PageNotFoundError("This answer has no heatmap.")
    colours = np.asarray(matplotlib.colormaps["inferno"](heat)[..., :3] * 255, np.uint8)
    clear = np.clip((heat - HEAT_FROM) / (1 - HEAT_FROM), 0, 1) ** 0.7
    return _png(np.dstack([colours, np.asarray(clear * 255, np.uint8)]))


def mask_png(row: PredictionRow, store: Store, number: int, index: int) -> bytes:
    """Return one outlined region of one image or slice, in the colour that results give it."""
    plane = _answer(store, row.artifact).plane(number, index)
    if plane is None:
        raise PageNotFoundError("This answer has no such region.")
    picture = np.zeros((*plane.shape, 4), np.uint8)
    own = row.summary["segments"][number]["kind"]["color"]
    picture[plane] = (*(own or colour_of(number)), 255)
    return _png(picture)


@dataclass(frozen=True, slots=True)
class _Answer:
    """The arrays of a prediction; masks take a bit a voxel, 33 MB for 1,000 slices."""

    heatmap: NDArray[np.float32] | None
    masks: Mapping[int, tuple[NDArray[np.uint8], int]]
    """By number: bits [..., rows, columns / 8], and the columns"""

    def plane(self, number: int, index: int) -> NDArray[np.bool_] | None:
        """Return a region on an image or slice; None if there is none of these numbers."""
        bits, columns = self.masks.get(number, (np.zeros(0, np.uint8), 0))
        if bits.ndim == 3:
            bits = bits[index] if 0 <= index < len(bits) else bits[:0]
        return np.unpackbits(bits, -1, columns).view(np.bool_) if bits.size else None


@lru_cache(maxsize=ANSWERS_KEPT)
def _answer(store: Store, key: str) -> _Answer:
    try:
        with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as packed:
            masks = {}
            for name in packed.files:
                if name.startswith("mask"):
                    mask = packed[name]
                    masks[int(name.removeprefix("mask"))] = (np.packbits(mask, -1), mask.shape[-1])
            return _Answer(packed["heatmap"] if "heatmap" in packed.files else None, masks)
    except (StoreMissingError, OSError, ValueError) as error:
        raise PageNotFoundError("The stored answer can't be read; replay the study.") from error


def _png(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
