"""An instance as Explicit VR Little Endian, frame by frame: never the whole object in memory."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from copy import copy
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from inference.errors import InferenceError
from inference.reading import decode_frames, open_image
from inference.transfer_syntaxes import DECODABLE
from ledger.broken import BROKEN_DATA
from ledger.domain import InstanceFacts
from scp.header import EXPLICIT_BIG_ENDIAN
from viewer_api.dicomweb.media import EXPLICIT_LITTLE_ENDIAN
from viewer_api.dicomweb.opened import OpenedInstance, copy_bytes
from viewer_api.errors import NotAcceptableError

MAX_VALUE_BYTES = 0xFFFFFFFE
"""Longest value with a length (PS3.5 section 7.1.2)."""
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
"""Of values that are bytes for pydicom (PS3.5 section 6.2)."""
_PIXELS = {0x7FE00008: b"OF", 0x7FE00009: b"OD", 0x7FE00010: b"OW"}


def can_transcode(facts: InstanceFacts) -> bool:
    """Tell whether there is a decoder; that the bytes are sound is only seen when it runs."""
    return not facts.has_pixel_data or facts.transfer_syntax_uid in DECODABLE


def explicit_little_endian(instance: OpenedInstance) -> Iterator[bytes]:
    """Yield a Part 10 file in chunks.

    Raises
    ------
    NotAcceptableError
        It can't be done; before the first chunk unless a later frame is damaged.
    """
    header = copy(instance.header)
    if instance.pixels is None:
        yield _head(header, instance.syntax)
    elif instance.is_native:
        pixels = instance.pixels
        yield _head(header, instance.syntax) + _element(pixels.tag, pixels.length)
        yield from copy_bytes(instance.file, pixels.start, pixels.length)
    else:
        yield from _decoded(instance, header)


def decoded_frames(instance: OpenedInstance, numbers: list[int]) -> Iterator[NDArray[Any]]:
    """Yield frames as arrays whose bytes are little endian.

    Raises
    ------
    NotAcceptableError
        They can't be decoded.
    BusyError
        Too many images are decoded at this moment.
    """
    try:
        with instance.room_for_a_frame():
            instance.file.seek(0)
            image = open_image(instance.file)
            for frame in decode_frames(instance.file, image, numbers):
                yield np.ascontiguousarray(frame, frame.dtype.newbyteorder("<"))
    except InferenceError as error:
        raise NotAcceptableError(f"{error} Ask for transfer-syntax=*.") from error


def _decoded(instance: OpenedInstance, header: Dataset) -> Iterator[bytes]:
    frames = decoded_frames(instance, list(range(1, instance.frames + 1)))
    first = next(frames)
    length = instance.frames * first.nbytes
    if length > MAX_VALUE_BYTES:
        raise NotAcceptableError("Uncompressed it is longer than DICOM allows; take it as stored.")
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        header.pop(keyword, None)
    header.BitsAllocated = 8 * first.itemsize
    if first.ndim == 3:
        header.PlanarConfiguration = 0
        if header.PhotometricInterpretation != "RGB":
            header.PhotometricInterpretation = "RGB"  # decoders make it so (PS3.3 C.7.6.3.1.2)
    padded = length + length % 2
    yield _head(header, instance.syntax) + _element(0x7FE00010, padded)
    for frame in chain([first], frames):
        yield frame.tobytes()
    yield bytes(padded - length)


def _head(header: Dataset, syntax: str) -> bytes:
    """Return preamble, file meta information and all elements before the pixels."""
    meta = FileMetaDataset()
    meta.update(header.file_meta)
    meta.TransferSyntaxUID = EXPLICIT_LITTLE_ENDIAN
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"):
            if syntax == EXPLICIT_BIG_ENDIAN:
                header = _turned(header)
            header.file_meta = meta
            header.save_as(buffer, enforce_file_format=True)
    except BROKEN_DATA as error:
        raise NotAcceptableError(
            "A value in the header can't be written anew; ask for transfer-syntax=*."
        ) from error
    return buffer.getvalue()


def _turned(header: Dataset) -> Dataset:
    """Return a big endian header as one that can be written in the other order."""
    for element in header.iterall():  # decodes all of them
        size = _WORD_BYTES.get(element.VR)
        if size and element.value:
            words = np.frombuffer(element.value, f">u{size}")
            element.value = words.astype(f"<u{size}").tobytes()
    turned = Dataset()
    turned.update({element.tag: element for element in header})
    return turned


def _element(tag: int, length: int) -> bytes:
    group, element = divmod(tag, 1 << 16)
    return struct.pack("<HH2sHL", group, element, _PIXELS[tag], 0, length)
