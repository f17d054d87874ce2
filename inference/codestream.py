"""What compressed pixels will become, before anything is decoded.

A decoder goes by the size that a stream states of itself, and allocates it. The header of the
DICOM object has been checked before; here the stream is held against it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from inference.errors import ImageTooLargeError, PixelsUnreadableError

JPEG = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes})
JPEG_2000 = frozenset(JPEG2000TransferSyntaxes)
MAX_RUN = 64
"""Decoded to encoded bytes at most: a run of 128 takes 2 bytes (PS3.5 section G.3.1)."""
UNCHECKED_BYTES = 1 << 28
"""RLE that can't become more than this isn't followed run by run."""
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})  # among the markers C0 to CF: DHT, JPG, DAC
_JPEG_LS_FRAME = 0xF7  # SOF55
_WITHOUT_LENGTH = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC, SIZ
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "


def check_stream(frame: bytes, syntax: UID, samples: int, bytes_per_sample: int) -> None:
    """Check that a compressed frame becomes no more than the header says.

    Parameters
    ----------
    frame
        The encoded frame.
    samples
        Rows x columns x samples per pixel of the header.

    Raises
    ------
    ImageTooLargeError
        It becomes more.
    PixelsUnreadableError
        It doesn't say what it becomes.
    """
    if syntax == RLELossless:
        _check_runs(frame, samples * bytes_per_sample)
        return
    stated = _jpeg(frame) if syntax in JPEG else _jpeg_2000(frame) if syntax in JPEG_2000 else 0
    if stated > samples:
        raise _too_large()


def _jpeg(frame: bytes) -> int:
    """Return lines x samples x components of the frame header (ISO 10918-1 B.2.2)."""
    for marker, position in _markers(frame):
        is_frame = 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME
        if is_frame or marker == _JPEG_LS_FRAME:
            if len(frame) < position + 8:
                break
            lines, columns, components = struct.unpack_from(">HHB", frame, position + 3)
            return int(lines * columns * components)
    raise PixelsUnreadableError("The JPEG stream has no frame header; the image is damaged.")


def _markers(frame: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker segments and where their length stands, until the scan."""
    position = frame.find(b"\xff\xd8")
    while 0 <= position < len(frame) - 3:
        if frame[position] != 0xFF:
            return
        marker = frame[position + 1]
        position += 1 if marker == 0xFF else 2  # fill bytes
        if marker in (0xDA, 0xD9):  # SOS, EOI
            return
        if marker != 0xFF and marker not in _WITHOUT_LENGTH:
            yield marker, position
            position += int.from_bytes(frame[position : position + 2], "big")


def _jpeg_2000(frame: bytes) -> int:
    """Return width x height x components of the SIZ segment (ISO 15444-1 A.5.1)."""
    start = _codestream(frame)
    if frame[start : start + 4] != _CODESTREAM or len(frame) < start + 42:
        raise PixelsUnreadableError("The JPEG 2000 stream has no size; the image is damaged.")
    right, bottom, left, top = struct.unpack_from(">IIII", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    return int(max(0, right - left) * max(0, bottom - top) * components)


def _codestream(frame: bytes) -> int:
    """Return where the codestream begins: at once, or in a box of a JP2 file (ISO 15444-1 I)."""
    if not frame.startswith(_JP2_SIGNATURE):
        return 0
    position = 0
    while position + 16 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, position)
        head = 8
        if length == 1:
            (length,), head = struct.unpack_from(">Q", frame, position + 8), 16
        if kind == b"jp2c":
            return position + head
        if length < head:
            break
        position += length
    return len(frame)


def _check_runs(frame: bytes, size: int) -> None:
    """Follow the runs of RLE (PS3.5 annex G), as soon as they could become very much."""
    if len(frame) * MAX_RUN <= max(2 * size, UNCHECKED_BYTES):
        return
    total, position = 0, 64  # behind the header
    while position < len(frame) - 1 and total <= 2 * size:
        head = frame[position]
        if head < 128:
            total += head + 1
            position += head + 2
        else:
            total += 257 - head if head > 128 else 0
            position += 2 if head > 128 else 1
    if total > 2 * size:
        raise _too_large()


def _too_large() -> ImageTooLargeError:
    return ImageTooLargeError(
        "The compressed pixels become more than the header says; export the image again."
    )
