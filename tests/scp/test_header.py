from __future__ import annotations

import io
import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from ledger.errors import NotPart10Error, UnreadableError
from scp.header import read_header
from scp.part10 import encode_file_meta
from tests.scp.received import data_set_bytes, radiograph

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
)


def read(data: bytes, syntax: str) -> None:
    meta = encode_file_meta("1.2", "1.2.3", syntax, "SENDER")
    with suppress(UnreadableError):
        read_header(io.BytesIO(meta + data), "1.2.3", syntax)


@given(st.binary(max_size=400), st.sampled_from(SYNTAXES))
def test_random_bytes_raise_nothing_but_coded_errors(data: bytes, syntax: str) -> None:
    read(data, syntax)


@pytest.mark.parametrize("syntax", SYNTAXES[:4])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_data_sets_raise_nothing_but_coded_errors(syntax: str, seed: int) -> None:
    chance = random.Random(seed)
    whole = data_set_bytes(radiograph(), syntax)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x41, 0x80, 0xFF))
        read(bytes(data), syntax)


@pytest.mark.parametrize("vr", [b"FD", b"US", b"SQ", b"OB", b"ZZ", b"AT", b"CS"])
@pytest.mark.parametrize("value", [b"", b"\0", b"\0" * 9, b"\0\1\0", b"\xff" * 12])
def test_character_set_of_any_type_raises_nothing_but_coded_errors(vr: bytes, value: bytes) -> None:
    # The one element that pydicom converts while it reads.
    head = struct.pack("<HH2s", 0x0008, 0x0005, vr)
    long = vr in (b"SQ", b"OB")
    length = struct.pack("<HL", 0, len(value)) if long else struct.pack("<H", len(value))
    read(head + length + value + data_set_bytes(radiograph()), ExplicitVRLittleEndian)


@given(st.binary(max_size=300))
def test_what_is_not_part_10_is_refused(data: bytes) -> None:
    with pytest.raises(NotPart10Error):
        read_header(io.BytesIO(data), "1.2.3", ExplicitVRLittleEndian)


def test_fingerprint_is_of_the_data_set_only() -> None:
    ds = radiograph()
    data = data_set_bytes(ds)
    digests = {
        read_header(
            io.BytesIO(encode_file_meta("1.2", "1.2.3", ExplicitVRLittleEndian, sender) + data),
            ds.SOPInstanceUID,
            ExplicitVRLittleEndian,
        ).sha256
        for sender in ("A", "ANOTHER")
    }
    assert len(digests) == 1
