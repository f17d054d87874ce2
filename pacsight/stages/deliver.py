"""The outbox to a destination: one attempt for all objects of one decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.delivery import send
from dicom_out.destination import (
    AskFor,
    DeliveryConfig,
    DeliveryReceipt,
    Destination,
    next_delay_s,
)
from ledger.database import reading, transaction
from ledger.domain import DeliveryState, Proof
from ledger.events import record
from ledger.tables import Delivery, ResultEncoding, ResultObjectRow
from pacsight.monitoring.metrics import DELIVERED
from pacsight.stages.context import StageContext, study_of
from pacsight.stages.patient_check import refuse_patient
from pacsight.stages.turnaround import observe_turnaround
from pacsight.work import Work

Pending: TypeAlias = tuple[Delivery, ResultObjectRow, ResultEncoding | None]


def deliver_results(context: StageContext, work: Work) -> Sequence[Work]:
    """Send what is pending; what failed goes back to the outbox with a later date, or is given up.

    A destination that is no longer configured makes its objects dead letters at once.
    """
    destination = next(
        (item for item in context.settings.destinations if item.name == work.destination), None
    )
    with reading(context.database) as session:
        waiting = pending(session, work)
    if not waiting:
        return []
    receipts: dict[str, DeliveryReceipt] = {}
    plain: set[str] = set()
    outcomes: Counter[str] = Counter()
    if destination is not None:
        items = [item for _, item, _ in waiting]
        receipts = refuse_patient(context, work, destination, items)
        if not receipts:
            _journal_begin(context, work, items)
            receipts, plain = _send(context, destination, waiting)
    with transaction(context.database) as session:
        for row, item, encoding in pending(session, work):
            if destination is not None and item.sop_instance_uid not in receipts:
                continue  # retried by hand meanwhile: the next attempt's
            if destination is None:
                row.attempts, row.state = work.attempt, DeliveryState.DEAD
                row.last_error = "DESTINATION_UNKNOWN: add it to the settings again and retry."
            else:
                receipt = receipts[item.sop_instance_uid]
                if encoding is not None and item.sop_instance_uid in plain:
                    row.encoding_id = None  # the peer took only these bytes: they stay the ones
                settle(
                    row,
                    receipt,
                    attempt=work.attempt,
                    rules=context.settings.delivery,
                    now=context.clock(),
                    asks=destination.proof,
                )
            outcomes[row.state] += 1
            record(
                session,
                actor=work.destination,
                action=f"delivery.{row.state}",
                subject=item.sop_instance_uid,
                detail={"attempt": work.attempt, "status": row.last_status},
                now=context.clock(),
            )
    _measure(context, work, outcomes)
    return []


def _measure(context: StageContext, work: Work, outcomes: Counter[str]) -> None:
    for outcome, count in outcomes.items():
        DELIVERED.labels(work.destination, outcome).inc(count)
    if set(outcomes) == {DeliveryState.DELIVERED}:
        with reading(context.database) as session:
            observe_turnaround(session, work.revision_id, context.clock())


def _journal_begin(context: StageContext, work: Work, items: Sequence[ResultObjectRow]) -> None:
    with transaction(context.database) as session:
        record(
            session,
            actor=work.destination,
            action="delivery.begun",
            subject=study_of(session, work.revision_id).study_instance_uid,
            detail={
                "attempt": work.attempt,
                "sop_classes": dict(Counter(item.sop_class_uid for item in items)),
            },
            now=context.clock(),
        )


def _send(
    context: StageContext, destination: Destination, waiting: Sequence[Pending]
) -> tuple[dict[str, DeliveryReceipt], set[str]]:
    """Send each object in its encoding, or as it was written where the peer takes no other.

    Return the receipts, and which objects went out as they were written.
    """
    written = [item.path for _, item, _ in waiting]
    encoded = [item.path if encoding is None else encoding.path for _, item, encoding in waiting]
    with context.store.files([*encoded, *written]) as paths:
        files, originals = paths[: len(waiting)], paths[len(waiting) :]
        sent = send(
            files,
            destination,
            calling_ae_title=context.settings.scp.ae_title,
            uncompressed={
                file: original
                for file, original, (_, _, encoding) in zip(files, originals, waiting, strict=True)
                if encoding is not None
            },
        )
    receipts, plain = {}, set()
    for receipt, original, (_, item, _) in zip(sent, originals, waiting, strict=True):
        receipts[item.sop_instance_uid] = receipt
        if receipt.path == original:
            plain.add(item.sop_instance_uid)
    return receipts, plain


def pending(session: Session, work: Work) -> list[Pending]:
    """Return the outbox rows that an attempt is about, with their objects and encodings."""
    rows = session.execute(
        select(Delivery, ResultObjectRow, ResultEncoding)
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .outerjoin(ResultEncoding, Delivery.encoding_id == ResultEncoding.id)
        .where(
            ResultObjectRow.decision_id == work.decision_id,
            Delivery.destination == work.destination,
            Delivery.state == DeliveryState.PENDING,
        )
        .order_by(ResultObjectRow.id)
    )
    return [(delivery, item, encoding) for delivery, item, encoding in rows]


def postpone(session: Session, work: Work, rules: DeliveryConfig, now: float) -> None:
    """Put back into the outbox what an attempt that ended in an error has left pending."""
    for row, _, _ in pending(session, work):
        row.attempts = work.attempt
        row.next_attempt_at = now + next_delay_s(work.attempt, rules)


def settle(
    row: Delivery,
    receipt: DeliveryReceipt,
    *,
    attempt: int,
    rules: DeliveryConfig,
    now: float,
    asks: AskFor = AskFor.AUTO,
) -> None:
    """Write one receipt into its outbox row; what was delivered is to be proven.

    A refusal that trying again can't mend, or one that has lasted longer than the rules allow,
    becomes a dead letter, which stays visible and can be retried by hand.
    """
    row.attempts = attempt
    row.last_status = receipt.status
    row.last_error = None if receipt.is_delivered else f"{receipt.code}: {receipt.message}"
    row.next_attempt_at = None
    if receipt.is_delivered:
        row.state, row.delivered_at = DeliveryState.DELIVERED, now
        if asks is AskFor.NONE:
            row.proof = Proof.SUCCESS
        else:
            row.proof_due_at, row.proof_attempts = now + rules.proof_after_s, 0
        return
    later = now + next_delay_s(attempt, rules)
    if receipt.is_retryable and later <= row.queued_at + rules.give_up_after_s:
        row.next_attempt_at = later
    else:
        row.state = DeliveryState.DEAD
