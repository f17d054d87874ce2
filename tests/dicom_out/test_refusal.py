"""Why a study was not analysed, as judged by others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import EncapsulatedPDFStorage

from dicom_out.model_result import Predecessor
from dicom_out.profile import STANDARD, Profile
from dicom_out.refusal import encode_refusal
from ledger.domain import Refusal
from tests.dicom_out.factories import MODEL, NOW, encode, read, source
from tests.peers.process import program

REASONS = [
    ("cxr-pneumonia 1.0.0", Refusal("MODALITY_NOT_ACCEPTED", "It takes CR and DX.")),
    ("lung-ct 1.0.0", Refusal("TOO_FEW_INSTANCES", "It needs 10 slices.")),
]
WANTED = Profile(name="wanted", refusals=True)


@pytest.mark.peer
def test_refusal_is_a_valid_text_that_names_every_reason(
    dcmtk: Callable[..., str], tmp_path: Path
) -> None:
    image, paper = source(), read(encode(source())[-1])
    assert paper.SOPClassUID == EncapsulatedPDFStorage
    sources = [image, paper]  # a document of the study has no pixels to refer to
    (item,) = encode_refusal(REASONS, sources, model=MODEL, seed="s", now=NOW, profile=WANTED)
    path = tmp_path / "refusal.dcm"
    path.write_bytes(item.data)
    command = [program("dciodvfy"), "-new", str(path)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Error" not in judged.stdout + judged.stderr
    text = dcmtk("dsrdump", "+Pl", path)
    assert "Basic Text SR Document" in text
    assert "MODALITY_NOT_ACCEPTED" in text
    assert "lung-ct 1.0.0: TOO_FEW_INSTANCES. It needs 10 slices." in text
    assert "No algorithms succeeded" in text
    assert "UNVERIFIED" in text
    assert "E: " not in text


def test_nobody_gets_one_who_did_not_ask() -> None:
    for profile in (STANDARD, Profile(name="x", pdf=True)):
        assert (
            encode_refusal(REASONS, [source()], model=MODEL, seed="s", now=NOW, profile=profile)
            == []
        )


def test_it_supersedes_an_earlier_answer() -> None:
    old = encode(source())[0]
    earlier = Predecessor(old.sop_class_uid, old.sop_instance_uid, old.series_instance_uid)
    (item,) = encode_refusal(
        REASONS, [source()], model=MODEL, seed="s", now=NOW, profile=WANTED, supersedes=[earlier]
    )
    (study,) = read(item).PredecessorDocumentsSequence
    named = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == old.sop_instance_uid
