"""The outbox: what a receipt means, what is due, and simulated days (the clock is passed in)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from dicom_out.destination import DeliveryConfig, DeliveryReceipt, Outcome
from ledger.database import reading, transaction
from ledger.domain import DeliveryState
from ledger.tables import Decision, Delivery, Job, ResultObjectRow, Revision, Study
from pacsight.dispatcher import due_deliveries, mark_started
from pacsight.stages.deliver import settle
from pacsight.work import Stage, Work, job_queued

RULES = DeliveryConfig(first_retry_s=10, longest_retry_s=3600, give_up_after_s=3 * 86400)


def _row() -> Delivery:
    return Delivery(destination="pacs", state=DeliveryState.PENDING, attempts=0, queued_at=0.0)


def _receipt(outcome: Outcome, *, retryable: bool = False, status: int | None = None):
    return DeliveryReceipt("1.2.3", outcome, "CODE", "Why.", status, is_retryable=retryable)


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.WARNING])
def test_success_and_warning_are_deliveries(outcome: Outcome) -> None:
    row = _row()
    settle(row, _receipt(outcome, status=0), attempt=1, rules=RULES, now=5.0)
    assert (row.state, row.delivered_at, row.last_error) == (DeliveryState.DELIVERED, 5.0, None)


def test_refusal_for_ever_is_a_dead_letter_at_once() -> None:
    row = _row()
    settle(row, _receipt(Outcome.REFUSED, status=0xA900), attempt=1, rules=RULES, now=5.0)
    assert (row.state, row.next_attempt_at) == (DeliveryState.DEAD, None)
    assert (row.last_status, row.last_error) == (0xA900, "CODE: Why.")


def test_destination_down_for_days_is_tried_with_growing_pauses_then_given_up() -> None:
    row, now, attempt, pauses = _row(), 0.0, 0, []
    while row.state == DeliveryState.PENDING:
        attempt += 1
        settle(row, _receipt(Outcome.FAILED, retryable=True), attempt=attempt, rules=RULES, now=now)
        if row.next_attempt_at is not None:
            pauses.append(row.next_attempt_at - now)
            now = row.next_attempt_at
    assert row.state == DeliveryState.DEAD
    assert pauses[:4] == [10, 20, 40, 80]
    assert pauses == sorted(pauses)
    assert max(pauses) == 3600
    assert 2.9 * 86400 < now <= 3 * 86400


def add_result(session: Session, sop_instance_uid: str, study_uid: str = "1.2") -> Delivery:
    """Add a study, a decision, a result object and its pending delivery."""
    study = Study(
        study_instance_uid=study_uid, patient_id="", patient_name="", patient_birth_date="",
        patient_sex="", accession_number="", study_date="", study_time="",
        study_description="", first_received_at=0, last_received_at=0,
    )  # fmt: skip
    session.add(study)
    session.flush()
    revision = Revision(study_id=study.id, number=1, reason_code="R", reason="r", created_at=0)
    session.add(revision)
    session.flush()
    decision = Decision(
        revision_id=revision.id, model_id="m", model_version="1", model_digest="d",
        is_accepted=True, sop_instance_uids=[], created_at=0,
    )  # fmt: skip
    session.add(decision)
    session.flush()
    return add_delivery(session, decision.id, sop_instance_uid)


def add_delivery(session: Session, decision_id: int, sop_instance_uid: str) -> Delivery:
    """Add one more result object of a decision and its pending delivery."""
    item = ResultObjectRow(
        decision_id=decision_id, kind="sr", sop_class_uid="1", path="p", size=1,
        sop_instance_uid=sop_instance_uid, series_instance_uid="1", sha256="", created_at=0,
    )  # fmt: skip
    session.add(item)
    session.flush()
    row = Delivery(
        result_object_id=item.id,
        destination="pacs",
        state=DeliveryState.PENDING,
        attempts=0,
        queued_at=0,
    )
    session.add(row)
    return row


def test_due_rows_of_one_decision_and_destination_are_one_attempt(engine: Engine) -> None:
    with transaction(engine) as session:
        first = add_result(session, "1.0")
        first.next_attempt_at = 5.0
        session.flush()
        decision_id = session.get_one(ResultObjectRow, first.result_object_id).decision_id
        for number, (due, attempts) in enumerate([(6.0, 2), (90.0, 0), (None, 0)]):
            row = add_delivery(session, decision_id, f"2.{number}")
            row.next_attempt_at, row.attempts = due, attempts
    with reading(engine) as session:
        (work,) = due_deliveries(session, now=10.0)
        assert due_deliveries(session, now=1.0) == []
    assert (work.decision_id, work.destination, work.attempt) == (decision_id, "pacs", 3)
    assert work.key == f"deliver:{decision_id}:pacs:3"


def test_letter_retried_by_hand_never_uses_the_key_of_an_attempt_that_was(engine: Engine) -> None:
    with transaction(engine) as session:
        dead = add_result(session, "1.0")
        session.flush()
        decision_id = session.get_one(ResultObjectRow, dead.result_object_id).decision_id
        other = add_delivery(session, decision_id, "1.1")
        dead.state, dead.attempts = DeliveryState.DEAD, 1
        other.attempts, other.next_attempt_at = 5, 900.0
    with transaction(engine) as session:
        row = session.get_one(Delivery, dead.id)
        row.state, row.next_attempt_at = DeliveryState.PENDING, 10.0
    with reading(engine) as session:
        (work,) = due_deliveries(session, now=10.0)
    assert work.attempt == 6


def test_date_of_the_next_attempt_outlives_a_late_mark_of_this_one(engine: Engine) -> None:
    with transaction(engine) as session:
        row = add_result(session, "1.0")
        row.next_attempt_at = 5.0
    with reading(engine) as session:
        (work,) = due_deliveries(session, now=10.0)
    with transaction(engine) as session:  # the attempt was quick, and failed
        settle(
            session.get_one(Delivery, row.id),
            _receipt(Outcome.FAILED, retryable=True),
            attempt=work.attempt,
            rules=RULES,
            now=11.0,
        )
    with transaction(engine) as session:
        mark_started(session, work)
    with reading(engine) as session:
        assert session.get_one(Delivery, row.id).next_attempt_at == 21.0


def test_two_dispatchers_queue_the_same_unit_once(engine: Engine) -> None:
    with transaction(engine) as session:
        row = add_result(session, "1.0")
        session.flush()
        decision_id = session.get_one(ResultObjectRow, row.result_object_id).decision_id
        revision_id = session.get_one(Decision, decision_id).revision_id
    start = threading.Barrier(2)

    def queue() -> None:
        for number in range(30):
            start.wait(10)
            with transaction(engine) as session:
                unit = Work(Stage.DELIVER, revision_id, decision_id, "pacs", number)
                job_queued(session, unit, "pacs", 1.0)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(queue), pool.submit(queue)]:
            done.result()
    with reading(engine) as session:
        assert session.query(Job).count() == 30
