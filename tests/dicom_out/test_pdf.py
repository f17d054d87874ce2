"""The report on paper, read back with poppler."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_out.pdf import MAX_PICTURES, ReportPicture, readable_name, report_pdf
from dicom_out.words import Statement, of_finding
from ledger.domain import PatientFacts
from tests.dicom_out.factories import MODEL, NOW, encode, finding, read, source
from tests.peers.process import program

NAMES = {
    "Hong^Gildong=洪^吉洞=홍^길동": "Hong Gildong (洪 吉洞, 홍 길동)",
    "Yamada^Tarou=山田^太郎=やまだ^たろう": "Yamada Tarou (山田 太郎, やまだ たろう)",
    "Διονυσίου^Νίκος": "Διονυσίου Νίκος",
    "Müller^Jörg <&>": "Müller Jörg <&>",
    "": "no name",
}
PICTURE = ReportPicture(np.full((60, 90, 3), 80, np.uint8), "Outlines on slice 4")


def paper(name: str = "Sample^Alice", pictures: int = 1, rows: int = 1) -> bytes:
    patient = PatientFacts("ID-1", name, "19700102", "F", "ACC-7", "20260105", "", "Chest PA")
    said = [("", of_finding(finding()))] * rows
    model = replace(MODEL, limits=("Children of one hospital only.",), facts=(("Figures", "few"),))
    return report_pdf(patient, model, said, [PICTURE] * pictures, created=NOW)


def text_of(pdf: bytes, tmp_path: Path) -> str:
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf)
    command = [program("pdftotext"), "-layout", str(path), "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


@pytest.mark.peer
def test_every_name_and_every_word_can_be_read(tmp_path: Path) -> None:
    for name, readable in NAMES.items():
        assert readable_name(name) == readable
        text = " ".join(text_of(paper(name), tmp_path).split())
        assert readable in text
    for words in (
        "not reviewed by a physician", "For research use only", "ID-1", "1970-01-02", "ACC-7",
        "2026-01-05", "2026-03-04 05:06", "positive", "87.3 %", "42.0 %", "Outlines on slice 4",
        "Children of one hospital only.", "page 1 of", "Signature", MODEL.identity.digest,
    ):  # fmt: skip
        assert words in text


@pytest.mark.peer
def test_a_letter_that_no_font_has_becomes_a_square(tmp_path: Path) -> None:
    assert "王 小□" in text_of(paper("Wang^XiaoDong=王^小东"), tmp_path)


@pytest.mark.peer
def test_long_tables_go_on_with_their_head_and_pictures_are_bounded(tmp_path: Path) -> None:
    text = text_of(paper(pictures=MAX_PICTURES + 3, rows=90), tmp_path)
    assert text.count("Probability") >= 2
    assert text.count("Outlines on slice 4") == MAX_PICTURES
    assert "3 more pictures" in text


def test_the_same_values_give_the_same_bytes() -> None:
    assert paper() == paper()


def test_where_several_images_are_told_apart_and_sizes_are_named() -> None:
    said = Statement("Neoplasm", "not found")
    patient = PatientFacts()
    assert report_pdf(patient, MODEL, [("Image 1", said), ("Image 2", said)], [], created=NOW)


def test_the_object_holds_the_page_and_refers_to_what_it_is_about() -> None:
    ds = source()
    document = read(encode(ds)[-1])
    assert document.SOPClassUID.name == "Encapsulated PDF Storage"
    assert document.EncapsulatedDocument[:5] == b"%PDF-"
    assert document.SourceInstanceSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID
    assert document.PatientName == ds.PatientName
