"""The worklist follows what happens, and finds and pages by its index."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select

import ledger.search
from ledger.database import reading, transaction
from ledger.search import Search, known_values, search_worklist
from ledger.tables import Decision, PredictionRow, Revision, Study
from ledger.web_tables import StudyTag, WorklistRow
from ledger.worklist import refresh_worklist, touch_revision


def add(engine: Engine, number: int, name: str, *, label: str | None = None) -> None:
    with transaction(engine) as session:
        study = Study(
            study_instance_uid=f"1.2.{number}", patient_id=f"P-{number}", patient_name=name,
            patient_birth_date="", patient_sex="", accession_number=f"ACC{number}", study_date="",
            study_time="", study_description="", first_received_at=float(number),
            last_received_at=float(number // 2), changed_at=1.0,
        )  # fmt: skip
        session.add(study)
        session.flush()
        revision = Revision(
            study_id=study.id, number=1, reason_code="X", reason="", created_at=1.0, started_at=1.0
        )
        session.add(revision)
        session.flush()
        if label is None:
            return
        decision = Decision(
            revision_id=revision.id, model_id="m", model_version="1", model_digest="0",
            is_accepted=True, sop_instance_uids=["1"], created_at=1.0,
        )  # fmt: skip
        session.add(decision)
        session.flush()
        finding = {"label": label, "probability": 0.9, "threshold": 0.5}
        below = {"label": "Nothing", "probability": 0.1, "threshold": 0.5}
        summary = {"findings": [finding, below], "boxes": [], "segments": []}
        session.add(
            PredictionRow(
                decision_id=decision.id,
                sop_instance_uid="1",
                summary=summary,
                artifact="",
                seconds=1.0,
                created_at=1.0,
            )
        )


def uids(engine: Engine, search: Search) -> list[str]:
    with reading(engine) as session:
        return [study.study_instance_uid for _, study in search_worklist(session, search)]


def test_everything_is_found_by_what_people_know(engine: Engine) -> None:
    add(engine, 1, "Müller^Anna", label="Pneumonia")
    add(engine, 2, "MÜLLER-Lüdenscheidt^Bo")
    add(engine, 3, "Nguyen^An=阮^安", label="Nodule")
    assert refresh_worklist(engine) == 3
    assert refresh_worklist(engine) == 0
    assert uids(engine, Search()) == ["1.2.3", "1.2.2", "1.2.1"]
    for text, found in {
        "müller": ["1.2.2", "1.2.1"],
        "mül": ["1.2.2", "1.2.1"],
        "anna MÜLLER": ["1.2.1"],
        "lüdenscheidt": ["1.2.2"],
        "阮": ["1.2.3"],
        "an": ["1.2.3"],
        "P-2": ["1.2.2"],
        "acc3": ["1.2.3"],
        "nobody": [],
        "%": ["1.2.3", "1.2.2", "1.2.1"],
    }.items():
        assert uids(engine, Search(text=text)) == found, text
    assert uids(engine, Search(finding="Pneumonia")) == ["1.2.1"]
    assert uids(engine, Search(finding="Nothing")) == []
    assert uids(engine, Search(model="m", state="done")) == ["1.2.3", "1.2.1"]
    assert uids(engine, Search(state="not analysed", text="müll")) == ["1.2.2"]
    assert uids(engine, Search(received_from=1.0, received_until=1.5)) == ["1.2.3", "1.2.2"]
    with reading(engine) as session:
        assert known_values(session, "finding") == ["Nodule", "Pneumonia"]


@pytest.mark.parametrize("counted", [0, 20, 20_000])
def test_pages_meet_without_gap_or_overlap(
    engine: Engine, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the search starts: at rare tags, at a frequent one, or at the list itself."""
    monkeypatch.setattr(ledger.search, "COUNTED", counted)
    for number in range(25):  # two share each time of arrival
        add(engine, number, "Same^Name Nameless" + " Rare Rarer" * (number % 2))
    while refresh_worklist(engine):
        pass
    everything, odd = set(range(1, 26)), set(range(2, 26, 2))
    for search, expected in (
        (Search(), everything),
        (Search(text="nam"), everything),
        (Search(text="same nam"), everything),
        (Search(state="not analysed"), everything),
        (Search(text="nam", state="not analysed"), everything),
        (Search(text="rar"), odd),
        (Search(text="rarer rare"), odd),
        (Search(text="rar same"), odd),
        (Search(text="rar", state="not analysed"), odd),
        (Search(text="rar", state="done"), set()),
    ):
        seen: list[int] = []
        after = None
        with reading(engine) as session:
            while page := search_worklist(session, search, after=after, limit=4):
                seen += [row.study_id for row, _ in page]
                after = page[-1][0].received_at, page[-1][0].study_id
        assert seen == sorted(expected, reverse=True), search


def test_change_moves_a_study_and_leaves_no_old_tag(engine: Engine) -> None:
    add(engine, 1, "A^B")
    refresh_worklist(engine)
    with transaction(engine) as session:
        study = session.scalars(select(Study)).one()
        study.patient_name, study.last_received_at = "C^D", 9.0
        revision = session.scalars(select(Revision)).one()
        revision.started_at = None
        touch_revision(session, revision.id, 2.0)
    assert refresh_worklist(engine) == 1
    with reading(engine) as session:
        row = session.scalars(select(WorklistRow)).one()
        tags = {(tag.kind, tag.value, tag.received_at) for tag in session.scalars(select(StudyTag))}
    assert (row.state, row.received_at) == ("waiting", 9.0)
    assert ("word", "c", 9.0) in tags
    assert {value for kind, value, _ in tags if kind == "word"} == {
        "c",
        "d",
        "p",
        "1",
        "acc1",
    }
    assert {value for kind, value, _ in tags if kind == "state"} == {"waiting"}
