"""File Meta Information in front of each received data set (PS3.10 section 7.1)."""

from __future__ import annotations

import struct
from functools import lru_cache

from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE = bytes(128) + b"DICM"
_FILE_META_VERSION = b"\x00\x01"


def encode_file_meta(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str
) -> bytes:
    """Return preamble, prefix and group 0002 for a data set in `transfer_syntax_uid`.

    Written by hand, not by pydicom: this runs once per received object, before its first byte.
    """
    elements = (
        _before_instance(sop_class_uid)
        + _element(0x0003, b"UI", sop_instance_uid.encode("ascii"))
        + _after_instance(transfer_syntax_uid, source_ae_title)
    )
    return _PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements


@lru_cache(maxsize=256)
def _before_instance(sop_class_uid: str) -> bytes:
    return _element(0x0001, b"OB", _FILE_META_VERSION) + _element(
        0x0002, b"UI", sop_class_uid.encode("ascii")
    )


@lru_cache(maxsize=256)
def _after_instance(transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
            _element(0x0016, b"AE", source_ae_title.encode("ascii", "replace")),
        )
    )


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    """Encode (0002,`element`) in Explicit VR Little Endian (PS3.5 section 7.1.2)."""
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH2s", 0x0002, element, vr) + length + value
