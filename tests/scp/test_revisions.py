from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import Engine, event, insert, text

from ledger.database import transaction
from ledger.tables import Event, Instance, Revision, Study
from scp.config import CompletenessConfig
from scp.indexer import index_received
from scp.revisions import close_complete_studies
from tests.scp.received import Received, radiograph

CONFIG = CompletenessConfig(quiet_s=3.0, cap_s=60.0)


@pytest.fixture
def received(engine: Engine, tmp_path: Path) -> Received:
    return Received(engine, tmp_path)


def index(received: Received) -> None:
    index_received(received.engine, received.spool, now=0.0)


def close(received: Received, now: float, config: CompletenessConfig = CONFIG) -> list[int]:
    return close_complete_studies(received.engine, config, now=now)


def test_complete_study_gets_a_revision_with_its_reason(received: Received) -> None:
    study = generate_uid()
    association = received.association(closed_at=12.0)
    for number in range(3):
        received.add(radiograph(StudyInstanceUID=study), at=10.0 + number, association=association)
    index(received)

    assert close(received, 14.9) == []
    made = close(received, 15.0)

    (revision,) = received.all(Revision)
    assert made == [revision.id]
    assert (revision.number, revision.created_at, revision.started_at) == (1, 15.0, None)
    assert revision.reason_code == "ASSOCIATION_RELEASED_AND_QUIET"
    assert "3 new instance(s) in 3 series" in revision.reason
    assert {i.revision_id for i in received.all(Instance)} == {revision.id}
    assert received.all(Study)[0].open_since is None
    arrival, event = received.all(Event)
    assert (arrival.actor, arrival.action) == ("MODALITY", "instances.received")
    assert list(arrival.detail["sop_classes"].values()) == [3]
    assert (event.actor, event.action, event.subject) == ("completeness", "study.complete", study)
    assert close(received, 1000.0) == []


def test_open_association_is_waited_for(received: Received) -> None:
    association = received.association(closed_at=None)
    received.add(radiograph(), at=10.0, association=association)
    index(received)
    assert close(received, 69.9) == []
    received.close(association, 69.0)
    assert close(received, 69.9) == []
    assert close(received, 72.0) != []
    assert received.all(Revision)[0].reason_code == "ASSOCIATION_RELEASED_AND_QUIET"


def test_association_of_another_study_is_not_waited_for(received: Received) -> None:
    received.add(radiograph(), at=10.0, association=received.association(closed_at=10.0))
    received.add(radiograph(), at=10.0, association=received.association(closed_at=None))
    index(received)
    assert len(close(received, 20.0)) == 1


def test_cut_association_waits_for_its_sender_to_come_back(received: Received) -> None:
    ds, study = radiograph(), generate_uid()
    ds.StudyInstanceUID = study
    cut = received.association(closed_at=11.0, outcome="aborted")
    received.add(ds, at=10.0, association=cut)
    index(received)
    assert close(received, 40.9) == []
    again = received.association(closed_at=52.0)
    received.add(ds, at=51.0, association=again)  # a duplicate brings nothing new
    received.add(radiograph(StudyInstanceUID=study), at=51.5, association=again)
    index(received)
    assert close(received, 54.9) == []
    assert len(close(received, 55.0)) == 1


def test_cap_closes_whatever_happens(received: Received) -> None:
    received.add(radiograph(), at=10.0, association=received.association(closed_at=None))
    index(received)
    assert close(received, 69.9) == []
    assert len(close(received, 70.0)) == 1
    assert received.all(Revision)[0].reason_code == "QUIET_CAP"


def test_unread_objects_postpone_the_verdict(received: Received) -> None:
    study, association = generate_uid(), received.association(closed_at=11.0)
    received.add(radiograph(StudyInstanceUID=study), at=10.0, association=association)
    index(received)
    received.add(radiograph(StudyInstanceUID=study), at=11.0, association=association)

    assert close(received, 30.0) == []
    index(received)
    assert len(close(received, 30.0)) == 1
    assert [i.revision_id for i in received.all(Instance)] == [1, 1]


def test_late_instance_makes_a_second_revision(received: Received) -> None:
    study = generate_uid()
    received.add(radiograph(StudyInstanceUID=study), at=10.0)
    index(received)
    (first,) = close(received, 20.0)
    received.add(radiograph(StudyInstanceUID=study), at=500.0)
    index(received)

    assert close(received, 502.0) == []
    (second,) = close(received, 503.0)

    assert [(row.number, row.superseded_by) for row in received.all(Revision)] == [
        (1, 2),
        (2, None),
    ]
    assert [i.revision_id for i in received.all(Instance)] == [first, second]


def test_identical_resend_makes_no_revision(received: Received) -> None:
    ds = radiograph()
    received.add(ds, at=10.0)
    index(received)
    close(received, 20.0)
    received.add(ds, at=500.0)
    index(received)
    assert close(received, 2000.0) == []


def test_new_version_makes_a_revision_that_leaves_the_old_one_alone(received: Received) -> None:
    ds = radiograph()
    received.add(ds, at=10.0)
    index(received)
    (first,) = close(received, 20.0)
    ds.InstanceNumber = 77
    received.add(ds, at=30.0)
    index(received)
    (second,) = close(received, 40.0)
    assert [(i.is_current, i.revision_id) for i in received.all(Instance)] == [
        (False, first),
        (True, second),
    ]


def test_version_replaced_before_the_study_closed_is_in_no_revision(received: Received) -> None:
    ds = radiograph()
    received.add(ds, at=10.0)
    ds.InstanceNumber = 77
    received.add(ds, at=11.0)
    index(received)
    (only,) = close(received, 20.0)
    assert [i.revision_id for i in received.all(Instance)] == [None, only]


def test_study_whose_only_instance_moved_to_another_closes_without_revision(
    received: Received,
) -> None:
    ds = radiograph()
    received.add(ds, at=10.0)
    index(received)
    ds.StudyInstanceUID = generate_uid()
    received.add(ds, at=11.0)
    index(received)
    assert len(close(received, 1000.0)) == 1
    assert [study.open_since for study in received.all(Study)] == [None, None]


def test_several_workers_close_each_study_once(received: Received) -> None:
    association = received.association(closed_at=10.0)
    for _ in range(40):
        received.add(radiograph(), at=10.0, association=association)
    index(received)
    start = threading.Barrier(4)
    made: list[int] = []

    def run() -> None:
        start.wait()
        made.extend(close(received, 20.0))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(set(made)) == 40
    assert len(received.all(Revision)) == 40


def test_instances_that_arrive_while_studies_close_are_all_in_some_revision(
    received: Received,
) -> None:
    study, association = generate_uid(), received.association(closed_at=0.0)
    config = CompletenessConfig(quiet_s=0.0, cap_s=60.0)
    is_done = threading.Event()

    def closing() -> None:
        while not is_done.is_set():
            close(received, 1.0, config)

    closer = threading.Thread(target=closing)
    closer.start()
    for _ in range(30):
        received.add(radiograph(StudyInstanceUID=study), association=association)
        index(received)
    is_done.set()
    closer.join()
    close(received, 1.0, config)

    assert None not in {i.revision_id for i in received.all(Instance)}
    numbers = [revision.number for revision in received.all(Revision)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_looking_for_open_studies_reads_no_closed_ones(received: Received) -> None:
    empty = dict.fromkeys(
        (
            "patient_id", "patient_name", "patient_birth_date", "patient_sex", "accession_number",
            "study_date", "study_time", "study_description",
        ),
        "",
    )  # fmt: skip
    rows = [
        {"study_instance_uid": f"1.2.{n}", "first_received_at": 0, "last_received_at": 0, **empty}
        for n in range(20_000)
    ]
    with transaction(received.engine) as session:
        session.execute(insert(Study.__table__), rows)  # type: ignore[arg-type]
        if received.engine.dialect.name == "postgresql":
            session.execute(text("ANALYZE"))  # it does so by itself, sooner or later
    received.add(radiograph(), at=10.0)
    index(received)
    statements: list[tuple[str, Any]] = []

    def remember(*arguments: Any) -> None:
        statements.append(arguments[2:4])

    event.listen(received.engine, "before_cursor_execute", remember)
    assert close(received, 12.0) == []
    event.remove(received.engine, "before_cursor_execute", remember)

    explain = "EXPLAIN QUERY PLAN" if received.engine.dialect.name == "sqlite" else "EXPLAIN"
    with received.engine.connect() as connection:
        plans = [
            str(connection.exec_driver_sql(f"{explain} {statement}", parameters).all())
            for statement, parameters in statements
            if statement.startswith("SELECT")
        ]
    assert any("study_open_since" in plan for plan in plans)
    assert not any("SCAN study" in plan or "Seq Scan on study" in plan for plan in plans), plans
