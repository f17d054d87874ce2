"""C-STORE messages and file headers against pydicom."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from ledger.product import IMPLEMENTATION_CLASS_UID
from scp.part10 import encode_file_meta
from scp.store_message import StoreRequest, is_uid, parse_command_set
from tests.scp.raw_peer import CT_IMAGE_STORAGE, echo_rq, store_rq


@pytest.mark.parametrize("instance_uid", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize("comment", ["", "odd", "even"])
def test_response_is_a_command_set_that_pydicom_reads(instance_uid: str, comment: str) -> None:
    request = StoreRequest(7, 65535, CT_IMAGE_STORAGE, instance_uid, True)
    pdu = request.respond(0xA700 if comment else 0, comment)
    assert pdu[0] == 4
    assert int.from_bytes(pdu[2:6], "big") == len(pdu) - 6
    assert int.from_bytes(pdu[6:10], "big") == len(pdu) - 10
    assert pdu[10:12] == bytes((7, 3))
    ds = read_dataset(io.BytesIO(pdu[12:]), is_implicit_VR=True, is_little_endian=True)
    assert ds.CommandGroupLength == len(pdu) - 12 - 12
    assert ds.CommandField == 0x8001
    assert ds.MessageIDBeingRespondedTo == 65535
    assert ds.CommandDataSetType == 0x0101
    assert ds.AffectedSOPClassUID == CT_IMAGE_STORAGE
    assert ds.AffectedSOPInstanceUID == instance_uid
    assert ds.get("ErrorComment", "") == comment


def test_response_to_a_broken_uid_leaves_it_out_and_cuts_the_comment() -> None:
    pdu = StoreRequest(1, 1, CT_IMAGE_STORAGE, "1.2.x", True).respond(0xC000, "x" * 100)
    ds = read_dataset(io.BytesIO(pdu[12:]), is_implicit_VR=True, is_little_endian=True)
    assert "AffectedSOPInstanceUID" not in ds
    assert ds.ErrorComment == "x" * 64


def test_request_is_read() -> None:
    request = StoreRequest.from_elements(3, parse_command_set(store_rq("1.2.345")))
    assert request == StoreRequest(3, 5, CT_IMAGE_STORAGE, "1.2.345", True, priority=0)
    assert StoreRequest.from_elements(3, parse_command_set(echo_rq())) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1.2.840.10008.1.1", True),
        ("1.2.03", True),  # not allowed, but seen
        ("2.25." + "9" * 59, True),
        ("2.25." + "9" * 60, False),
        ("", False),
        ("1", False),
        ("1.", False),
        (".1", False),
        ("1..2", False),
        ("1.2 ", False),
        ("1.2\n", False),
        ("1.2/../3", False),
        ("１.２", False),
    ],
)
def test_is_uid(value: str, expected: bool) -> None:
    assert is_uid(value) is expected


@pytest.mark.parametrize("title", ["MODALITY", "ODD", ""])
def test_file_header_is_one_that_pydicom_reads(title: str) -> None:
    header = encode_file_meta(CT_IMAGE_STORAGE, "1.2.3", "1.2.840.10008.1.2", title)
    data = header + bytes.fromhex("10001000 04000000") + b"A^B "
    ds = dcmread(io.BytesIO(data))
    assert ds.PatientName == "A^B"
    meta = ds.file_meta
    assert meta.FileMetaInformationGroupLength == len(header) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CT_IMAGE_STORAGE
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid
    assert meta.SourceApplicationEntityTitle == title
