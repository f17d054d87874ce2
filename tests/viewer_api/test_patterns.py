"""Searches by parts of names find the same whether they begin at words or read every study."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

import viewer_api.dicomweb.conditions
from ledger.database import reading, transaction
from ledger.search import tags_of_pattern
from ledger.store import FolderStore
from ledger.tables import Study
from ledger.worklist import refresh_worklist, words
from viewer_api.dicomweb.matching import parse
from viewer_api.dicomweb.search import Searcher

LETTERS = "aAbÜüßİi\u0307_阮^=- ."
NAMES = [
    "Müller^Anna", "MULLER-LUDENSCHEIDT^BO", "Nguyen^An=阮^安", "Mul_ler^Anna", "MULLER^ANNA",
    "Ann^Muller", "100%^Anna", "", "Mu", "muller", "MULLERSEN^^^Dr.", "x" * 70 + "^Anna",
    "New^Name",
]  # fmt: skip
"""of studies 1, 2, ..."""
FOUND = {
    ("PatientName", "mull*"): [2, 5, 10, 11, 13],
    ("PatientName", "MULLER"): [10],
    ("PatientName", "muller^anna"): [5],
    ("PatientName", "*^ANNA"): [1, 4, 5, 7, 12],
    ("PatientName", "mu?ler^*"): [5, 13],
    ("PatientName", "m*er^a*"): [1, 4, 5],
    ("PatientName", "*lud*"): [2],
    ("PatientName", "?uller*"): [2, 5, 10, 11, 13],
    ("PatientName", "mul_*"): [4],
    ("PatientName", "100%*"): [7],
    ("PatientName", "x" * 66 + "*"): [12],
    ("PatientName", "*阮^*"): [3],
    ("PatientName", "new*"): [],
    ("PatientID", "p-00?"): [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ("AccessionNumber", "acc1*"): [1, 10, 11, 12, 13],
}


@given(st.data())
def test_whatever_fits_a_pattern_has_its_tags(data: st.DataObject) -> None:
    name = data.draw(st.text(LETTERS, max_size=8))
    spans = data.draw(st.lists(st.sampled_from("*?."), min_size=len(name), max_size=len(name)))
    pattern = "".join(
        letter if span == "." else span for letter, span in zip(name, spans, strict=True)
    )
    pattern = data.draw(st.sampled_from([pattern, f"*{pattern}", f"{pattern}*", pattern.upper()]))
    if not _fits(pattern, name):
        return
    tags = words(name)
    for kind, value, is_prefix in tags_of_pattern(pattern):
        assert kind == "word"
        assert any(tag.startswith(value) if is_prefix else tag == value for tag in tags)


def _fits(pattern: str, name: str) -> bool:
    """Compare letter by letter, as a database with all of Unicode does."""
    parts = ({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in _lower(pattern))
    return re.fullmatch("".join(parts), _lower(name), re.DOTALL) is not None


def _lower(text: str) -> str:
    return "".join("i" if one == "İ" else one.lower() for one in text)


def test_tags_lead_to_the_same_studies_as_reading_all(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(engine) as session:
        session.add_all(
            Study(
                id=number, study_instance_uid=f"1.2.{number}", patient_id=f"P-{number:03}",
                patient_name=name, patient_birth_date="", patient_sex="", study_time="",
                accession_number=f"ACC{number}", study_date="20260101", study_description="",
                first_received_at=1.0, last_received_at=1.0, changed_at=1.0,
            )
            for number, name in enumerate(NAMES, 1)
        )  # fmt: skip
    assert refresh_worklist(engine) == len(NAMES)
    with transaction(engine) as session:
        renamed = session.get_one(Study, len(NAMES))
        renamed.patient_name, renamed.changed_at = "Muller^Late", 2.0  # its tags are still the old

    def found(keyword: str, value: str) -> list[int]:
        question = parse("studies", [(keyword, value)])
        with reading(engine) as session:
            rows = Searcher(session, FolderStore(tmp_path), "http://here").studies(question).rows
        return sorted(int(row["0020000D"]["Value"][0][4:]) for row in rows)

    assert {asked: found(*asked) for asked in FOUND} == FOUND
    monkeypatch.setattr(viewer_api.dicomweb.conditions, "few_with_tags", lambda *_: None)
    assert {asked: found(*asked) for asked in FOUND} == FOUND
