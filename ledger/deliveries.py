"""The outbox, as people use it: queue results for a destination, try again what failed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.domain import DeliveryState
from ledger.events import record
from ledger.tables import Decision, Delivery, ResultEncoding, ResultObjectRow
from ledger.worklist import touch_revision


def queue_deliveries(
    session: Session,
    result_object_ids: Sequence[int],
    destination: str,
    transfer_syntax_uid: str,
    now: float,
) -> int:
    """Queue results that were never meant for `destination`; return how many.

    Parameters
    ----------
    transfer_syntax_uid
        What the destination prefers: what was not written so goes out uncompressed.
    """
    known = set(
        session.scalars(
            select(Delivery.result_object_id).where(
                Delivery.result_object_id.in_(result_object_ids),
                Delivery.destination == destination,
            )
        )
    )
    new = [one for one in result_object_ids if one not in known]
    preferred = {
        row.result_object_id: row.id
        for row in session.scalars(
            select(ResultEncoding).where(
                ResultEncoding.result_object_id.in_(new),
                ResultEncoding.transfer_syntax_uid == transfer_syntax_uid,
            )
        )
    }
    session.add_all(
        Delivery(
            result_object_id=one,
            encoding_id=preferred.get(one),
            destination=destination,
            state=DeliveryState.PENDING,
            attempts=0,
            queued_at=now,
            next_attempt_at=now,
        )
        for one in new
    )
    touch_results(session, new, now)
    return len(new)


def retry_deliveries(session: Session, *, delivery_id: int | None, actor: str, now: float) -> int:
    """Send again now what was given up or waits; return how many.

    Parameters
    ----------
    delivery_id
        Which; None is every dead one and every waiting one.
    """
    query = select(Delivery).where(Delivery.state != DeliveryState.DELIVERED)
    if delivery_id is not None:
        query = query.where(Delivery.id == delivery_id)
    rows = session.scalars(query).all()
    for row in rows:
        row.state, row.next_attempt_at, row.queued_at = DeliveryState.PENDING, now, now
        record(
            session,
            actor=actor,
            action="delivery.retried",
            subject=session.get_one(ResultObjectRow, row.result_object_id).sop_instance_uid,
            detail={"destination": row.destination, "attempts": row.attempts},
            now=now,
        )
    touch_results(session, [row.result_object_id for row in rows], now)
    return len(rows)


def touch_results(session: Session, result_object_ids: Sequence[int], now: float) -> None:
    """Have the worklist show anew the studies of some results."""
    revisions = session.scalars(
        select(Decision.revision_id)
        .join(ResultObjectRow, ResultObjectRow.decision_id == Decision.id)
        .where(ResultObjectRow.id.in_(result_object_ids))
        .distinct()
    )
    for revision_id in revisions.all():
        touch_revision(session, revision_id, now)
