"""C-STORE messages as bytes: the request's command set in, the response PDU out (PS3.7, PS3.8)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

# Elements of group 0000, PS3.7 section E.1
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
PRIORITY = 0x0700
COMMAND_DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
SUCCESS = 0x0000

_ELEMENT_HEADER = struct.Struct("<HHI")
_PDU_HEADER = struct.Struct(">BBIIBB")  # PDU and its one PDV (PS3.8 sections 9.3.5, 9.3.5.1)
_RESPONSE = struct.Struct("<" + 4 * "HHIH")  # the four US elements between the two UIDs
# PS3.5 section 9.1 forbids leading zeros in components; senders that write them are tolerated.
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


@lru_cache(maxsize=1024)  # the same few, and each SOP Instance UID again in its response
def is_uid(value: str) -> bool:
    """Whether `value` can name something: digits and dots, at most 64 (PS3.5 section 9.1)."""
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def parse_command_set(encoded: bytes) -> dict[int, bytes]:
    """Return ``{element number: value}`` of a command set, group 0000 in Implicit VR Little Endian.

    Raises
    ------
    ValueError
        The bytes are no command set.
    """
    elements: dict[int, bytes] = {}
    position = 0
    while position + _ELEMENT_HEADER.size <= len(encoded):
        group, element, length = _ELEMENT_HEADER.unpack_from(encoded, position)
        position += _ELEMENT_HEADER.size
        if group != 0 or element in elements or position + length > len(encoded):
            raise ValueError("bad command set")
        elements[element] = encoded[position : position + length]
        position += length
    if position != len(encoded) or read_us(elements, COMMAND_FIELD) is None:
        raise ValueError("bad command set")
    return elements


def read_us(elements: Mapping[int, bytes], element: int) -> int | None:
    """Return a US value, or None when the element is absent or not 2 bytes long."""
    value = elements.get(element, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def has_data_set(elements: Mapping[int, bytes]) -> bool:
    """Whether a data set follows: any Command Data Set Type but 0101H (PS3.7 section E.1)."""
    return read_us(elements, COMMAND_DATA_SET_TYPE) != NO_DATA_SET


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ (PS3.7 section 9.3.1.1) under one presentation context."""

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool
    priority: int | None = None
    """0 medium, 1 high, 2 low (PS3.7 section 9.3.1.1.6); None if absent"""

    @classmethod
    def from_elements(cls, context_id: int, elements: Mapping[int, bytes]) -> Self | None:
        """Read a command set; None if it is another message.

        Raises
        ------
        ValueError
            It is a C-STORE-RQ without Message ID: nobody could be answered.
        """
        if read_us(elements, COMMAND_FIELD) != C_STORE_RQ:
            return None
        message_id = read_us(elements, MESSAGE_ID)
        if message_id is None:
            raise ValueError("C-STORE-RQ without Message ID")
        return cls(
            context_id,
            message_id,
            _read_ui(elements, AFFECTED_SOP_CLASS_UID),
            _read_ui(elements, AFFECTED_SOP_INSTANCE_UID),
            has_data_set(elements),
            read_us(elements, PRIORITY),
        )

    def respond(self, status: int, comment: str = "") -> bytes:
        """Return the C-STORE-RSP (PS3.7 section 9.3.1.2) as one P-DATA-TF PDU (PS3.8 9.3.5)."""
        # group, element, length 2, value; all in Implicit VR Little Endian (PS3.7 section 6.3.1)
        middle = _RESPONSE.pack(
            *(0, COMMAND_FIELD, 2, C_STORE_RSP),
            *(0, MESSAGE_ID_BEING_RESPONDED_TO, 2, self.message_id),
            *(0, COMMAND_DATA_SET_TYPE, 2, NO_DATA_SET),
            *(0, STATUS, 2, status),
        )
        command = (
            _ui(AFFECTED_SOP_CLASS_UID, self.sop_class_uid)
            + middle
            + _lo(ERROR_COMMENT, comment)
            + _ui(AFFECTED_SOP_INSTANCE_UID, self.sop_instance_uid)
        )
        command = _element(0x0000, len(command).to_bytes(4, "little")) + command
        pdv_length = len(command) + 2
        # PDU type 04H; control header 03H: command, last fragment (PS3.8 section E.2)
        header = _PDU_HEADER.pack(0x04, 0, pdv_length + 4, pdv_length, self.context_id, 0x03)
        return header + command


def _read_ui(elements: Mapping[int, bytes], element: int) -> str:
    # latin-1 maps every byte, so broken values survive until they are judged by is_uid()
    return elements.get(element, b"").decode("latin-1").rstrip("\0 ")


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT_HEADER.pack(0, element, len(value)) + value


def _ui(element: int, value: str) -> bytes:
    """Encode a UID; a broken one is left out, as both UIDs of a response are optional."""
    if not is_uid(value):
        return b""
    return _element(element, value.encode("ascii") + b"\0" * (len(value) % 2))


def _lo(element: int, value: str) -> bytes:
    text = value[:64]  # LO, PS3.5 section 6.2
    return _element(element, text.encode("ascii") + b" " * (len(text) % 2)) if text else b""
