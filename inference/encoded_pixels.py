"""Whether a DICOM file was cut short.

Decoders of compressed images often fill what is missing with grey and say nothing, so a cut file is
recognised before anything is decoded.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from pydicom import Dataset
from pydicom.dataelem import RawDataElement

UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"UN"})  # PS3.5 table 7.1-1
_ITEM = (0xFFFE, 0xE000)


def are_pixels_cut(file: BinaryIO, order: str) -> bool:
    """Tell whether the file ends inside the pixel data element that it is positioned at.

    Fragments without the sequence delimiter after them count as cut, as in the service's intake: a
    frame may lie in several fragments, so nobody can tell whether all of them came.

    Parameters
    ----------
    order
        ``<`` or ``>``, the byte order of the data set.
    """
    start = file.tell()
    head = file.read(12)
    if len(head) < 8:
        return True
    is_explicit = head[4:6] in _LONG_VRS
    if is_explicit and len(head) < 12:
        return True
    (length,) = struct.unpack_from(f"{order}L", head, 8 if is_explicit else 4)
    position = start + (12 if is_explicit else 8)
    size = file.seek(0, os.SEEK_END)
    if length != UNDEFINED_LENGTH:
        return bool(position + length > size)
    return _is_a_fragment_cut(file, position, size)


def _is_a_fragment_cut(file: BinaryIO, position: int, size: int) -> bool:
    """Walk the fragments (PS3.5 section A.4) to their delimiter, without reading them."""
    while position < size:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return True
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) != _ITEM:
            return False
        position += 8 + length
    return True


def is_header_cut(file: BinaryIO, header: Dataset) -> bool:
    """Tell whether a header without pixel data ends in the middle of an element."""
    keys = list(header.keys())
    if not keys:
        return False
    last = header.get_item(keys[-1], keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED_LENGTH:
        return False
    return bool(last.value_tell + last.length != file.seek(0, os.SEEK_END))
