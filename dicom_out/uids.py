"""Unique identifiers that can be derived again.

A result object's UIDs follow from what it is a result of, so a step that runs twice after a crash
writes the same object, and a PACS that gets it twice keeps one.
"""

from __future__ import annotations

import hashlib
import re
import uuid

MAX_UID_LENGTH = 64
"""Characters in a UID at most, PS3.5 section 9.1."""


_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def derive_uid(*parts: str) -> str:
    """Return the UID that belongs to ``parts``, always the same one.

    The first 128 bits of a SHA-256 over the parts become a UUID of version 8 (RFC 9562), and that
    a UID below ``2.25`` (PS3.5 section B.2).

    Parameters
    ----------
    parts
        What the object is; kept apart, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256(b"\x1f".join(part.encode() for part in parts)).digest()
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76  # version 8
    number = number & ~(0x3 << 62) | 0x2 << 62  # variant of RFC 9562
    return f"2.25.{uuid.UUID(int=number).int}"


def is_valid_uid(value: str) -> bool:
    """Whether ``value`` is a UID: digits and dots, no leading zeros, 64 characters at most."""
    return len(value) <= MAX_UID_LENGTH and _UID.fullmatch(value) is not None
