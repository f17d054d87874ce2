"""Who sent what of a revision: one event per association, for the audit trail."""

from __future__ import annotations

from collections import Counter, defaultdict

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.events import record
from ledger.tables import Association, Instance, ReceivedObject, Revision, Study

UPLOADED = "uploaded"
"""Outcome of what people hand in by the web app, which has an event of its own."""


def record_arrivals(session: Session, study: Study, revision: Revision, now: float) -> None:
    """Append an event per association that brought something new of `revision`."""
    rows = session.execute(
        select(Association, ReceivedObject.sop_class_uid, func.count())
        .join(ReceivedObject, ReceivedObject.association_id == Association.id)
        .join(Instance, Instance.received_object_id == ReceivedObject.id)
        .where(Instance.revision_id == revision.id)
        .where(Association.outcome.is_distinct_from(UPLOADED))
        .group_by(Association.id, ReceivedObject.sop_class_uid)
        .order_by(Association.id)
    )
    classes: dict[Association, Counter[str]] = defaultdict(Counter)
    for association, sop_class_uid, count in rows:
        classes[association][sop_class_uid] += count
    for association, counts in classes.items():
        record(
            session,
            actor=association.calling_ae_title,
            action="instances.received",
            subject=study.study_instance_uid,
            detail={
                "address": association.peer_address,
                "called": association.called_ae_title,
                "listener": association.listener,
                "revision": revision.number,
                "sop_classes": dict(counts),
            },
            now=now,
        )
