"""What happened to a revision before a worker took it up, as spans read from the ledger."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.tables import Association, Instance, ReceivedObject, Revision
from pacsight.monitoring.tracing import Tracer


def tell_past(session: Session, tracer: Tracer, revision_id: int, now: float) -> None:
    """Write the spans ``study``, ``association``, ``receive`` and ``complete`` of a revision."""
    revision = session.get_one(Revision, revision_id)
    trace_id = revision.trace_id
    if not tracer.is_on or trace_id is None:
        return
    rows = session.execute(
        select(
            Association,
            func.min(ReceivedObject.received_at),
            func.max(ReceivedObject.received_at),
            func.count(),
        )
        .join(ReceivedObject, ReceivedObject.association_id == Association.id)
        .join(Instance, Instance.received_object_id == ReceivedObject.id)
        .where(Instance.revision_id == revision_id)
        .group_by(Association.id)
    ).all()
    begun = min((one.opened_at for one, *_ in rows), default=revision.created_at)
    known: dict[str, str | int] = {
        "pacsight.study": revision.study_id,
        "pacsight.revision": revision.number,
    }
    tracer.root(trace_id, "study", begun, now, {**known, "pacsight.stat": revision.is_stat})
    last = begun
    for association, first, newest, count in rows:
        peer: dict[str, str | int] = {"pacsight.calling_ae_title": association.calling_ae_title}
        ended = association.closed_at or newest
        about: dict[str, str | int] = {**peer, "pacsight.outcome": association.outcome or "open"}
        tracer.past(trace_id, "association", association.opened_at, ended, about)
        tracer.past(trace_id, "receive", first, newest, {**peer, "pacsight.objects": count})
        last = max(last, newest)
    why = {**known, "pacsight.reason": revision.reason_code}
    tracer.past(trace_id, "complete", last, max(last, revision.created_at), why)
