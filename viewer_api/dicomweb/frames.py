"""Frames of an instance, as stored or decoded (PS3.18 section 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.encaps import get_frame

from ledger.broken import BROKEN_DATA
from viewer_api.dicomweb.media import AS_STORED, EXPLICIT_LITTLE_ENDIAN, FRAME_TYPES, OCTETS
from viewer_api.dicomweb.opened import UNDEFINED, OpenedInstance
from viewer_api.dicomweb.transcode import decoded_frames
from viewer_api.errors import NotAcceptableError, PageNotFoundError, QueryError

MAX_FRAMES = 1 << 16
"""In one request."""


@dataclass(frozen=True, slots=True)
class FrameForm:
    """How frames are sent: a media type and a transfer syntax."""

    media_type: str
    transfer_syntax: str

    @property
    def content_type(self) -> str:
        """The header of a part."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"


def parse_frames(text: str) -> list[int]:
    """Read a list of numbers, from 1.

    Raises
    ------
    QueryError
        It is none.
    """
    parts = text.split(",")
    if len(parts) > MAX_FRAMES or not all(one.isdecimal() and len(one) < 10 for one in parts):
        raise QueryError("Frames are a list of whole numbers with commas.")
    numbers = [int(one) for one in parts]
    if not all(numbers):
        raise QueryError("Frames are counted from 1.")
    return numbers


def stored_form(syntax: str, media_type: str) -> FrameForm:
    """Return how a frame is called that is sent as stored."""
    is_compressed = syntax in FRAME_TYPES
    return FrameForm(media_type, syntax if is_compressed else EXPLICIT_LITTLE_ENDIAN)


def form_of(stored: str, media_type: str, wanted: Collection[str]) -> FrameForm | None:
    """Return how to send frames of an instance as a media type, or None if that can't be.

    Parameters
    ----------
    stored
        Transfer syntax of the instance.
    wanted
        Transfer syntaxes that the client takes for that media type; ``*``: as stored.
    """
    if media_type == OCTETS:
        if stored in FRAME_TYPES and not {stored, AS_STORED} & set(wanted):
            can_decode = EXPLICIT_LITTLE_ENDIAN in wanted
            return FrameForm(OCTETS, EXPLICIT_LITTLE_ENDIAN) if can_decode else None
        return stored_form(stored, OCTETS)
    is_wanted = {stored, AS_STORED, EXPLICIT_LITTLE_ENDIAN} & set(wanted)
    return FrameForm(media_type, stored) if is_wanted else None


def read_frames(instance: OpenedInstance, numbers: list[int], form: FrameForm) -> Iterator[bytes]:
    """Yield the bytes of frames.

    Raises
    ------
    PageNotFoundError
        There is no such frame.
    NotAcceptableError
        A frame can't be given in that form.
    """
    if max(numbers) > instance.frames:
        raise PageNotFoundError("The instance has no such frame.")
    if instance.is_native:
        yield from _native(instance, numbers)
    elif form.transfer_syntax == instance.syntax:
        yield from (_encapsulated(instance, number) for number in numbers)
    else:
        yield from (frame.tobytes() for frame in decoded_frames(instance, numbers))


def _native(instance: OpenedInstance, numbers: list[int]) -> Iterator[bytes]:
    pixels = instance.pixels
    assert pixels is not None
    try:
        bits = _frame_bits(instance)
    except BROKEN_DATA as error:
        raise NotAcceptableError("The instance doesn't say how large its frames are.") from error
    for number in numbers:
        first = (number - 1) * bits
        start, end = first // 8, (first + bits + 7) // 8
        if end > pixels.length:
            raise NotAcceptableError("The instance has less pixels than it says; send it again.")
        instance.file.seek(pixels.start + start)
        data = instance.file.read(end - start)
        if bits % 8:  # single bits, of which a frame may begin within a byte (PS3.5 section 8.1.1)
            lined = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
            data = np.packbits(lined[first % 8 : first % 8 + bits], bitorder="little").tobytes()
        yield data


def _frame_bits(instance: OpenedInstance) -> int:
    header = instance.header
    if header.BitsAllocated == 1:
        return int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel)
    return 8 * (instance.native_bytes // instance.frames)


def _encapsulated(instance: OpenedInstance, number: int) -> bytes:
    pixels = instance.pixels
    if pixels is None or pixels.length != UNDEFINED:
        raise NotAcceptableError("The pixels aren't encapsulated as their syntax says.")
    tables = [
        instance.header.get(one) for one in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
    ]
    instance.file.seek(pixels.start)
    try:
        return get_frame(
            instance.file,
            number - 1,
            extended_offsets=(tables[0], tables[1]) if all(tables) else None,
            number_of_frames=instance.frames,
        )
    except BROKEN_DATA as error:
        raise NotAcceptableError("The frame can't be found among its fragments.") from error
