"""A held instance, open: its header, and where its pixels lie."""

from __future__ import annotations

import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from pydicom import Dataset, dcmread
from pydicom.pixels.utils import get_expected_length

from ledger.broken import BROKEN_DATA
from ledger.domain import InstanceFacts
from ledger.errors import TruncatedError, UnreadableError
from scp.header import DEFLATED, EXPLICIT_BIG_ENDIAN, IMPLICIT_LITTLE_ENDIAN, find_data_set
from scp.part10 import encode_file_meta
from viewer_api.context import WebContext
from viewer_api.decoding import BYTES_PER_SAMPLE, DecodingBudget
from viewer_api.dicomweb.held import Held
from viewer_api.dicomweb.media import EXPLICIT_LITTLE_ENDIAN

CHUNK_BYTES = 1 << 18
MAX_INFLATED_BYTES = 1 << 30
IN_MEMORY_BYTES = 1 << 25
UNDEFINED = 0xFFFFFFFF
NATIVE = frozenset({IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN})
"""Pixels of these are sent as they lie."""
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN")


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Pixel Data, Float Pixel Data or Double Float Pixel Data: where its value lies, in bytes."""

    tag: int
    start: int
    length: int
    """0xFFFFFFFF: encapsulated"""


@dataclass(frozen=True, slots=True)
class OpenedInstance:
    """A header, and the file that it was read from.

    ``syntax`` is that of the file, which for deflated instances is an inflated copy.
    """

    facts: InstanceFacts
    file: BinaryIO
    header: Dataset
    syntax: str
    pixels: PixelElement | None
    decoding: DecodingBudget

    @contextmanager
    def room_for_a_frame(self) -> Iterator[None]:
        """Take what one decoded frame needs of the memory that all requests share.

        Raises
        ------
        BusyError
            Others need it, and didn't give it back in time.
        """
        facts = self.facts
        size = facts.rows * facts.columns * max(1, facts.samples_per_pixel) * BYTES_PER_SAMPLE
        with self.decoding.hold(size):
            yield

    @property
    def frames(self) -> int:
        """How many there are; 0 without pixels."""
        return 0 if self.pixels is None else max(1, self.facts.number_of_frames)

    @property
    def is_native(self) -> bool:
        """Whether pixels lie there as Explicit VR Little Endian has them."""
        return self.syntax in NATIVE

    @property
    def native_bytes(self) -> int:
        """Length of all frames without compression, padding left out."""
        return get_expected_length(self.header)


@contextmanager
def opened(context: WebContext, held: Held) -> Iterator[OpenedInstance]:
    """Open an instance.

    Raises
    ------
    UnreadableError
        Its header can't be read.
    ReceiveError, StoreError
        Its bytes are gone or can't be read now.
    """
    syntax = held.facts.transfer_syntax_uid
    with held.open(context) as stored:
        if syntax not in DEFLATED:
            yield _read(context, held, stored, syntax)
            return
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as copy:
            file = cast(BinaryIO, copy)
            _inflate(stored, file, held.facts)
            file.seek(0)
            yield _read(context, held, file, EXPLICIT_LITTLE_ENDIAN)


def _read(context: WebContext, held: Held, file: BinaryIO, syntax: str) -> OpenedInstance:
    try:
        with warnings.catch_warnings(action="ignore"):
            header = dcmread(file, stop_before_pixels=True, force=True)
        pixels = _find_pixels(file, syntax)
        return OpenedInstance(held.facts, file, header, syntax, pixels, context.decoding)
    except BROKEN_DATA as error:
        raise UnreadableError("The instance's header can't be read; send it again.") from error


def _find_pixels(file: BinaryIO, syntax: str) -> PixelElement | None:
    """Read the head of the element where the header ended (PS3.5 section 7.1)."""
    order = ">" if syntax == EXPLICIT_BIG_ENDIAN else "<"
    start = file.tell()
    head = file.read(12)
    if len(head) < 8:
        return None
    group, element = struct.unpack_from(f"{order}HH", head)
    if group != 0x7FE0 or element not in (0x0008, 0x0009, 0x0010):
        return None
    tag = group << 16 | element
    if syntax != IMPLICIT_LITTLE_ENDIAN and head[4:6] in _LONG_VRS:
        return PixelElement(tag, start + 12, struct.unpack_from(f"{order}L", head, 8)[0])
    return PixelElement(tag, start + 8, struct.unpack_from(f"{order}L", head, 4)[0])


def _inflate(stored: BinaryIO, copy: BinaryIO, facts: InstanceFacts) -> None:
    """Write a deflated instance (PS3.5 section A.5) as an explicit one, up to a limit."""
    stored.seek(find_data_set(stored))
    copy.write(
        encode_file_meta(facts.sop_class_uid, facts.sop_instance_uid, EXPLICIT_LITTLE_ENDIAN, "")
    )
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or stored.read(CHUNK_BYTES)
            if not data:
                raise TruncatedError("The deflated data set ends too early; send it again.")
            total += copy.write(inflater.decompress(data, CHUNK_BYTES))
            if total > MAX_INFLATED_BYTES:
                raise UnreadableError("The deflated data set is too large to be inflated.")
    except zlib.error as error:
        raise UnreadableError("The deflated data set can't be inflated; send it again.") from error


def copy_bytes(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    """Yield a part of a file in chunks."""
    file.seek(start)
    while length > 0:
        chunk = file.read(min(CHUNK_BYTES, length))
        if not chunk:
            raise TruncatedError("The instance ends too early; send it again.")
        length -= len(chunk)
        yield chunk


def whole_file(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in chunks, from its start."""
    return copy_bytes(file, 0, file.seek(0, io.SEEK_END))
