"""From a received object to its facts and its fingerprint, without its pixels.

Values over 64 KiB are not kept, so a 1 GB object costs no memory; only what lies in sequences of
undefined length is read whole, by pydicom. What the end of the data set should be is compared with
where it is: a C-STORE can succeed and carry half a file.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

from ledger.broken import BROKEN_DATA
from ledger.domain import InstanceFacts, PatientFacts
from ledger.errors import (
    HeaderTooLargeError,
    NotPart10Error,
    TruncatedError,
    UidMismatchError,
    UnreadableError,
)
from ledger.facts import is_result, read_facts
from ledger.parts import MeteredFile

MAX_VALUE_BYTES = 1 << 16
MAX_INFLATED_HEADER_BYTES = 1 << 26
MAX_FRAGMENTS = 1 << 20  # beyond, the end of pixel data isn't looked for
CHUNK_BYTES = 1 << 20

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # Float, Double Float and Pixel Data
SOP_CLASS_UID = 0x00080016
UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)  # PS3.5 section 7.5
_PREFIX_BYTES = 132


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """What was learnt from one received object."""

    facts: InstanceFacts
    patient: PatientFacts
    sha256: str
    """of the data set; the file meta information differs with the sender"""
    is_result: bool
    """made by Pacsight"""


def read_header(
    file: BinaryIO, sop_instance_uid: str | None, transfer_syntax_uid: str
) -> ObjectHeader:
    """Read a received object.

    Parameters
    ----------
    file
        A Part 10 file (PS3.10 section 7.1), seekable.
    sop_instance_uid, transfer_syntax_uid
        As the association said: they are the truth about the bytes. Without an association there
        is no SOP Instance UID but the data set's own: None.

    Raises
    ------
    UnreadableError
        Or one of its kinds: the object can't be used; the sentence says why.
    OSError
        The file can't be read.
    """
    start = find_data_set(file)
    digest = _digest(file, start)
    if transfer_syntax_uid in DEFLATED:
        file, start = _inflate_header(file, start), 0
    ds, has_pixel_data = _parse(file, start, transfer_syntax_uid)
    facts, patient = read_facts(ds)
    if sop_instance_uid not in (None, facts.sop_instance_uid):
        raise UidMismatchError(
            "The data set is another SOP Instance than the C-STORE request said."
        )
    facts = replace(facts, has_pixel_data=has_pixel_data)
    return ObjectHeader(facts, patient, digest, is_result(ds))


def find_data_set(file: BinaryIO) -> int:
    """Return where the data set starts: after group 0002, whose length comes first.

    Raises
    ------
    NotPart10Error
        There is no file meta information.
    """
    head = file.read(_PREFIX_BYTES + 12)
    group_length = b"\x02\x00\x00\x00UL\x04\x00"  # (0002,0000)
    if head[128:132] != b"DICM" or head[132:140] != group_length or len(head) < 144:
        raise NotPart10Error("There is no File Meta Information; this is no DICOM file.")
    return len(head) + int.from_bytes(head[140:144], "little")


def _digest(file: BinaryIO, start: int) -> str:
    file.seek(start)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _inflate_header(file: BinaryIO, start: int) -> BinaryIO:
    """Return the header of a deflated data set (PS3.5 section A.5) as a file.

    Up to a limit: a few kilobytes can inflate to gigabytes.
    """
    file.seek(start)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    header = bytearray()
    try:
        while len(header) < MAX_INFLATED_HEADER_BYTES and not inflate.eof:
            chunk = inflate.unconsumed_tail or file.read(CHUNK_BYTES)
            if not chunk:
                raise TruncatedError("The deflated data set ends too early; send it again.")
            header += inflate.decompress(chunk, MAX_INFLATED_HEADER_BYTES - len(header))
    except zlib.error as error:
        raise UnreadableError("The deflated data set can't be inflated; send it again.") from error
    return io.BytesIO(header)


class _LastElement:
    """Stops the parser at pixel data and remembers which element it began last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tag = 0
        self.length = 0
        self.value_start = 0

    def __call__(self, tag: BaseTag, _vr: str | None, length: int) -> bool:
        self.tag, self.length, self.value_start = int(tag), length, self._file.tell()
        return self.is_pixel_data

    @property
    def is_pixel_data(self) -> bool:
        return self.tag in PIXEL_TAGS


def _parse(file: BinaryIO, start: int, transfer_syntax_uid: str) -> tuple[Dataset, bool]:
    """Return the header and whether it has pixel data."""
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    last = _LastElement(file)
    metered: Any = MeteredFile(file)
    try:
        with warnings.catch_warnings(action="ignore"):
            ds = read_dataset(
                metered,
                is_implicit_VR=transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN,
                is_little_endian=transfer_syntax_uid != EXPLICIT_BIG_ENDIAN,
                stop_when=last,
                defer_size=MAX_VALUE_BYTES,
            )
    except (*BROKEN_DATA, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; pydicom's own have no number
        if metered.is_exhausted:
            raise HeaderTooLargeError from error
        raise UnreadableError("The data set can't be parsed; send it again.") from error
    is_complete, has_pixel_data = _check_end(file, ds, last, end, transfer_syntax_uid)
    if SOP_CLASS_UID not in ds:
        raise UnreadableError("This is no DICOM data set, or it has no SOP Class UID.")
    if not is_complete and not (transfer_syntax_uid in DEFLATED and last.is_pixel_data):
        raise TruncatedError("The data set ends too early; send it again.")
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    return ds, has_pixel_data


def _check_end(
    file: BinaryIO, ds: Dataset, last: _LastElement, end: int, transfer_syntax_uid: str
) -> tuple[bool, bool]:
    """Return whether the last element is whole, and whether it is pixel data that isn't empty."""
    if last.length != UNDEFINED:
        rest = end - last.value_start - last.length
        has_pixel_data = last.is_pixel_data and last.length > 0
        if last.is_pixel_data or rest <= 0:
            return rest >= 0, has_pixel_data
        file.seek(-rest, os.SEEK_END)
        return not file.read(8).strip(b"\0 \n"), False  # the start of an element, or padding
    if last.is_pixel_data:
        file.seek(last.value_start)
        order = ">" if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
        return _walk_fragments(file, struct.Struct(order + "HHL"), end)
    return BaseTag(last.tag) in ds, False


def _walk_fragments(file: BinaryIO, item: struct.Struct, end: int) -> tuple[bool, bool]:
    """Follow the items of encapsulated pixel data (PS3.5 section A.4) to their delimiter."""
    is_any = False
    for number in range(MAX_FRAGMENTS):
        head = file.read(item.size)
        if len(head) < item.size:
            return False, is_any
        *tag, length = item.unpack(head)
        if tuple(tag) == _SEQUENCE_DELIMITER:
            return True, is_any
        if tuple(tag) != _ITEM:
            break  # not as the standard has it; whoever decodes it will say
        if file.seek(length, os.SEEK_CUR) > end:
            return False, True
        is_any = is_any or (number > 0 and length > 0)  # the first item is the offset table
    return True, True
