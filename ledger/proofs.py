"""Whether delivered objects really are at their destinations: what is due, what was said."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ledger.deliveries import touch_results
from ledger.domain import DeliveryState, Proof
from ledger.events import record
from ledger.tables import Decision, Delivery, ResultObjectRow, Revision, Study

AWAITED = "COMMITMENT_AWAITED: The destination was asked to commit and has not reported yet."


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivered object that is not proven yet."""

    delivery_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    attempts: int
    """proofs tried in vain"""
    is_unanswered: bool
    """storage commitment was asked for, and no report came in time"""
    failure_reason: int | None
    """why the destination does not commit"""


def claim_unproven(
    session: Session, destination: str, *, now: float, lease_s: float, limit: int = 200
) -> list[Sent]:
    """Return what a destination is to be asked about now; nobody else does so for `lease_s`.

    Parameters
    ----------
    now
        Seconds since 1970 UTC.
    lease_s
        After this long it is due again, should this process die, in seconds.
    """
    rows = session.scalars(
        select(Delivery)
        .where(Delivery.proof_due_at <= now, Delivery.destination == destination)
        .order_by(Delivery.proof_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        row.proof_due_at = now + lease_s
    session.flush()
    places = {
        item.id: (study_uid, item)
        for item, study_uid in session.execute(
            select(ResultObjectRow, Study.study_instance_uid)
            .join(Decision, ResultObjectRow.decision_id == Decision.id)
            .join(Revision, Decision.revision_id == Revision.id)
            .join(Study, Revision.study_id == Study.id)
            .where(ResultObjectRow.id.in_([row.result_object_id for row in rows]))
        )
    }
    return [
        Sent(
            row.id,
            places[row.result_object_id][0],
            places[row.result_object_id][1].series_instance_uid,
            places[row.result_object_id][1].sop_class_uid,
            places[row.result_object_id][1].sop_instance_uid,
            row.proof_attempts,
            row.transaction_uid is not None,
            row.failure_reason,
        )
        for row in rows
    ]


def note_request(
    session: Session, sent: Collection[Sent], transaction_uid: str, due_at: float
) -> None:
    """Record that storage commitment is asked for, before it is: the report may come at once."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_([one.delivery_id for one in sent]))
        .values(
            transaction_uid=transaction_uid,
            proof_due_at=due_at,
            failure_reason=None,
            last_error=AWAITED,
        )
        .execution_options(synchronize_session=False)
    )


def note_report(
    session: Session,
    transaction_uid: str,
    held: Collection[str],
    failed: Mapping[str, int],
    now: float,
) -> bool:
    """Record what a destination reports about a storage commitment; tell whether it is known.

    What failed is due at once: what to do about it is not decided here.

    Parameters
    ----------
    held
        SOP Instances that the destination has committed to.
    failed
        Those that it has not, with the Failure Reason (0008,1197).
    """
    if not transaction_uid:
        return False
    rows = session.execute(
        select(Delivery, ResultObjectRow.sop_instance_uid)
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .where(Delivery.transaction_uid == transaction_uid)
        .with_for_update(of=Delivery)
    ).all()
    for row, uid in rows:
        if row.state != DeliveryState.DELIVERED or row.proof is not None:
            continue  # said before
        if uid in failed:
            row.failure_reason, row.proof_due_at = failed[uid], now
        elif uid in held:
            _prove(session, row, uid, Proof.COMMITMENT, now)
    return bool(rows)


def is_answered(session: Session, transaction_uid: str) -> bool:
    """Tell whether nothing of a request for storage commitment is left to be reported."""
    waiting = select(Delivery.id).where(
        Delivery.transaction_uid == transaction_uid,
        Delivery.proof.is_(None),
        Delivery.failure_reason.is_(None),
    )
    return session.scalar(waiting.limit(1)) is None


def prove(session: Session, sent: Collection[Sent], proof: Proof, now: float) -> None:
    """Record that objects are where they belong."""
    for row, one in _still(session, sent):
        _prove(session, row, one.sop_instance_uid, proof, now)


def ask_later(
    session: Session, sent: Collection[Sent], due_at: Mapping[int, float], why: str
) -> None:
    """Record that a destination could not be asked, or does not know yet.

    Parameters
    ----------
    due_at
        When each is asked again, by delivery id.
    why
        A code and a sentence.
    """
    for row, _ in _still(session, sent):
        row.proof_attempts += 1
        row.proof_due_at, row.last_error = due_at[row.id], why
        row.failure_reason = None


def send_again(
    session: Session,
    sent: Collection[Sent],
    *,
    due_at: float,
    give_up_after_s: float,
    why: str,
    now: float,
) -> None:
    """Put back into the outbox what a destination said it stored and does not hold.

    What has been on its way for too long becomes a dead letter.
    """
    rows = _still(session, sent)
    touch_results(session, [row.result_object_id for row, _ in rows], now)
    for row, one in rows:
        is_late = due_at > row.queued_at + give_up_after_s
        row.state = DeliveryState.DEAD if is_late else DeliveryState.PENDING
        row.next_attempt_at = None if is_late else due_at
        row.last_error, row.delivered_at = why, None
        row.proof_due_at = row.transaction_uid = row.failure_reason = None
        record(
            session,
            actor=row.destination,
            action=f"delivery.{'dead' if is_late else 'lost'}",
            subject=one.sop_instance_uid,
            detail={"code": why.split(":")[0]},
            now=now,
        )


def settle_unasked(session: Session, asked: Sequence[str]) -> None:
    """Leave it at Success for destinations that nobody asks any more.

    Parameters
    ----------
    asked
        Names of the destinations that are asked.
    """
    session.execute(
        update(Delivery)
        .where(Delivery.proof_due_at.is_not(None), Delivery.destination.not_in(asked))
        .values(proof=Proof.SUCCESS, proof_due_at=None)
        .execution_options(synchronize_session=False)
    )


def _still(session: Session, sent: Collection[Sent]) -> list[tuple[Delivery, Sent]]:
    """Return the rows of what is still unproven: a report may have come meanwhile."""
    by_id = {one.delivery_id: one for one in sent}
    rows = session.scalars(
        select(Delivery)
        .where(
            Delivery.id.in_(by_id),
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.proof.is_(None),
        )
        .with_for_update()
    )
    return [(row, by_id[row.id]) for row in rows]


def _prove(session: Session, row: Delivery, uid: str, proof: Proof, now: float) -> None:
    row.proof, row.last_error = proof, None
    row.proof_due_at = row.failure_reason = None
    record(
        session,
        actor=row.destination,
        action="delivery.proven",
        subject=uid,
        detail={"proof": proof.value},
        now=now,
    )
