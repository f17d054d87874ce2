"""Reading one image: DICOM, PNG or JPEG, from a file or from a slice of the spool.

Only the header and one frame are read, so a multi-frame object costs no more memory than one frame.
What can't be read ends as a coded error, however broken the file is.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.filereader import data_element_generator
from pydicom.pixels import iter_pixels, pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

import inference.jpeg12  # noqa: F401 - registers a decoder
from inference.codestream import check_stream
from inference.display_values import color_values, frame_header, gray_values, modality_values
from inference.encoded_pixels import are_pixels_cut, is_header_cut
from inference.errors import (
    ImageError,
    ImageTooLargeError,
    MissingPixelDataError,
    NotAnImageError,
    PixelsUnreadableError,
    TransferSyntaxError,
    TruncatedError,
)
from inference.pictures import SIGNATURES, read_picture
from inference.source_image import SourceImage
from inference.transfer_syntaxes import DECODABLE
from ledger.broken import BROKEN_DATA
from ledger.domain import InstanceFacts
from ledger.errors import HeaderTooLargeError
from ledger.facts import PIXEL_KEYWORDS, read_facts
from ledger.parts import MeteredFile

__all__ = [
    "OpenedImage",
    "SourceImage",
    "decode_frames",
    "open_image",
    "read_display",
    "read_frames",
    "read_image",
]

MAX_FRAME_PIXELS = 250_000_000
MAX_INFLATED_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
_PIXEL_HEADER_BYTES = 12  # tag, VR OB, two reserved bytes, length (PS3.5 section 7.1.2)
_GRAY = frozenset({"MONOCHROME1", "MONOCHROME2"})
# The decoders turn these into RGB (PS3.3 C.7.6.3.1.2)
_COLOR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_PIXEL_TAGS = frozenset({(0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)})

# What pydicom and the decoders raise on broken data; none of it says more than "can't be read".
_BROKEN = (*BROKEN_DATA, AssertionError, OSError, RuntimeError)


def read_image(source: Path | BinaryIO) -> SourceImage:
    """Read an image as display values, with its header.

    Parameters
    ----------
    source
        A file, or an open binary file that can seek, at its start: DICOM with or without
        preamble, PNG or JPEG; the content decides, not the name. Of several frames the first.

    Returns
    -------
    SourceImage

    Raises
    ------
    ImageError
        One of its kinds; nothing else escapes.
    ledger.errors.UnreadableError
        A DICOM object without the UIDs that identify it.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return read_image(file)
        except OSError as error:
            raise NotAnImageError(f"The file can't be opened: {error.strerror}.") from error
    start = source.read(132)
    source.seek(0)
    if start.startswith(SIGNATURES):
        return read_picture(source)
    if start[128:132] == b"DICM" or _looks_like_dicom(start):
        with warnings.catch_warnings(action="ignore"):
            return _read_dicom(source)
    if not start:
        raise NotAnImageError("The file is empty.")
    raise NotAnImageError("The file is neither DICOM nor PNG nor JPEG.")


def _looks_like_dicom(start: bytes) -> bool:
    """Tell whether bytes without a preamble can be the first element of a data set.

    That is an element of group 0002 or 0008 with a known VR, or (implicit VR) a short length.
    """
    if len(start) < 8:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}HH", start)
        if group in {0x0002, 0x0008} and element <= 0x0100:
            is_explicit = start[4:6] in {b"UL", b"UI", b"OB", b"CS", b"SH", b"DA", b"TM", b"AE"}
            (length,) = struct.unpack_from("<L", start, 4)
            return is_explicit or (order == "<" and length <= 1024)
    return False


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """A DICOM image whose header was read and whose pixels can be decoded.

    Attributes
    ----------
    dataset
        The header without pixel data.
    facts
        What it says.
    transfer_syntax_uid
        How the pixels are encoded.
    pixels_at
        Where the pixel data element begins in the file.
    """

    dataset: Dataset
    facts: InstanceFacts
    transfer_syntax_uid: str
    pixels_at: int

    @property
    def is_multi_frame(self) -> bool:
        """Whether the object has several frames."""
        return self.facts.number_of_frames > 1


def open_image(source: BinaryIO) -> OpenedImage:
    """Read the header of a DICOM image.

    Parameters
    ----------
    source
        An open file that can seek, at its start.

    Raises
    ------
    ImageError
        One of its kinds; nothing else escapes.
    ledger.errors.UnreadableError
        A DICOM object without the UIDs that identify it.
    """
    with warnings.catch_warnings(action="ignore"):
        header, pixels_at = _read_header(source)
        facts = replace(read_facts(header)[0], has_pixel_data=pixels_at is not None)
    if pixels_at is None:
        raise MissingPixelDataError("The DICOM object has no Pixel Data; it is not an image.")
    syntax = _transfer_syntax(header)
    if syntax not in DECODABLE:
        raise TransferSyntaxError(
            f"No decoder for transfer syntax {syntax[:64]}; send the image uncompressed."
        )
    if facts.rows * facts.columns > MAX_FRAME_PIXELS:
        raise ImageTooLargeError(
            f"A frame has more than {MAX_FRAME_PIXELS // 1_000_000} million pixels."
        )
    return OpenedImage(header, facts, syntax, pixels_at)


def read_frames(
    source: BinaryIO, image: OpenedImage, numbers: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    """Yield frames after Modality LUT (HU for CT), float32 [rows, columns], one at a time.

    Parameters
    ----------
    source
        The file that `image` was opened from.
    numbers
        Which frames, from 1, in the order wanted.

    Raises
    ------
    ImageError
        One of its kinds; nothing else escapes.
    """
    with warnings.catch_warnings(action="ignore"), _decoding():
        for number, pixels in zip(numbers, _frames(source, image, numbers), strict=True):
            if pixels.ndim != 2:
                raise PixelsUnreadableError(
                    "A slice of a series must be grey; this one is in colour."
                )
            yield modality_values(pixels, frame_header(image.dataset, number - 1))


def decode_frames(
    source: BinaryIO, image: OpenedImage, numbers: Sequence[int]
) -> Iterator[NDArray[Any]]:
    """Yield frames as stored values, [rows, columns] or RGB [rows, columns, 3], one at a time.

    Parameters and errors are those of :func:`read_frames`.
    """
    with warnings.catch_warnings(action="ignore"), _decoding():
        yield from _frames(source, image, numbers)


def read_display(
    source: BinaryIO,
    image: OpenedImage,
    number: int = 1,
    window: tuple[float, float, str] | None = None,
) -> NDArray[np.float32]:
    """Return display values of a frame, [rows, columns] or [rows, columns, 3], in [0, 1].

    Parameters
    ----------
    number
        Of the frame, from 1.
    window
        Center, width and VOI LUT Function (PS3.3 C.11.2.1.2 and C.11.2.1.3) in place of the
        image's own; grey images only.

    Raises
    ------
    ImageError
        One of its kinds; nothing else escapes.
    """
    with warnings.catch_warnings(action="ignore"), _decoding():
        (pixels,) = _frames(source, image, [number])
        header = frame_header(image.dataset, number - 1)
        if window is not None:
            header.WindowCenter, header.WindowWidth, header.VOILUTFunction = window
            header.pop("VOILUTSequence", None)
        return _display_values(pixels, header)


def _read_dicom(file: BinaryIO) -> SourceImage:
    image = open_image(file)
    array = read_display(file, image)
    return SourceImage.of(array, image.facts, image.dataset)


def _read_header(file: BinaryIO) -> tuple[Dataset, int | None]:
    """Return the header without pixel data, and where these begin; None if there are none."""
    metered: Any = MeteredFile(file)
    try:
        _check_inflated_size(file)
        header = dcmread(metered, stop_before_pixels=True, force=True)
        if header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            file.seek(0)
            has_pixels = any(keyword in dcmread(file, force=True) for keyword in PIXEL_KEYWORDS)
            return header, 0 if has_pixels else None
    except (EOFError, struct.error, zlib.error) as error:
        raise _truncated() from error
    except _BROKEN as error:
        if metered.is_exhausted:
            raise HeaderTooLargeError from error
        raise NotAnImageError("The file starts like DICOM but can't be read as such.") from error
    order = ">" if header.original_encoding[1] is False else "<"
    position = file.tell()
    tag = file.read(4)
    file.seek(position)
    has_pixels = len(tag) == 4 and struct.unpack(f"{order}HH", tag) in _PIXEL_TAGS
    if are_pixels_cut(file, order) if has_pixels else is_header_cut(file, header):
        raise _truncated()
    return header, position if has_pixels else None


def _check_inflated_size(file: BinaryIO) -> None:
    """Inflate a deflated data set once into nothing, so that pydicom never meets a bomb."""
    if file.read(132)[128:] == b"DICM" and _is_deflated(file):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        total = 0
        while not inflater.eof:
            data = inflater.unconsumed_tail or file.read(_CHUNK_BYTES)
            if not data:
                raise _truncated()
            total += len(inflater.decompress(data, _CHUNK_BYTES))
            if total > MAX_INFLATED_BYTES:
                raise ImageTooLargeError("The deflated data set is too large; send it as it is.")
    file.seek(0)


def _is_deflated(file: BinaryIO) -> bool:
    """Read the file meta information; `file` is then at the data set."""
    elements = data_element_generator(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2
    )
    syntax = [element.value for element in elements if element.tag == 0x00020010]
    return syntax[:1] == [DeflatedExplicitVRLittleEndian.encode()]


def _transfer_syntax(header: Dataset) -> str:
    """Return the declared transfer syntax, or for a bare data set the one it was read with."""
    declared = str(header.file_meta.get("TransferSyntaxUID") or "")
    if declared:
        return declared
    is_implicit, is_little_endian = header.original_encoding[:2]
    if is_implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian)


def _frames(file: BinaryIO, image: OpenedImage, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Decode frames: stored values, [rows, columns] or RGB [rows, columns, 3].

    Only one frame of many is in memory, unless the whole data set is deflated.
    """
    file.seek(0)
    syntax = UID(image.transfer_syntax_uid)
    if image.is_multi_frame and syntax != DeflatedExplicitVRLittleEndian:
        indices = [number - 1 for number in numbers]
        if syntax.is_encapsulated:
            for index in indices:
                file.seek(image.pixels_at + _PIXEL_HEADER_BYTES)
                _check_frame(file, image, index)
            file.seek(0)
        yield from iter_pixels(file, indices=indices, transfer_syntax_uid=syntax)
        return
    dataset = dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = syntax
    for number in numbers:
        if syntax.is_encapsulated:
            _check_frame(dataset.PixelData, image, number - 1)
        yield pixel_array(dataset, index=number - 1)


def _check_frame(pixels: bytes | BinaryIO, image: OpenedImage, index: int) -> None:
    """Check what an encoded frame becomes before it is decoded."""
    header, facts = image.dataset, image.facts
    tables = (header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths"))
    frame = get_frame(
        pixels,
        index,
        extended_offsets=tables if all(tables) else None,
        number_of_frames=max(1, facts.number_of_frames),
    )
    samples = facts.rows * facts.columns * max(1, facts.samples_per_pixel)
    size = max(1, int(header.get("BitsAllocated") or 0) // 8)
    check_stream(frame, UID(image.transfer_syntax_uid), samples, size)


def _display_values(pixels: NDArray[Any], header: Dataset) -> NDArray[np.float32]:
    photometric = str(header.PhotometricInterpretation)
    if photometric in _GRAY and pixels.ndim == 2:
        return gray_values(pixels, header)
    if (photometric in _COLOR and pixels.ndim == 3) or photometric == "PALETTE COLOR":
        return color_values(pixels, header)
    raise PixelsUnreadableError(
        f"Photometric Interpretation {photometric[:16]} is not known; convert the image."
    )


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn what decoders raise into one coded error."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooLargeError("The image doesn't fit into memory.") from error
    except _BROKEN as error:
        raise PixelsUnreadableError(
            "The pixels can't be decoded: the image is damaged or not valid DICOM."
        ) from error


def _truncated() -> TruncatedError:
    return TruncatedError("The DICOM file ends too early; send it again.")
