"""How long a study took from its last image to its results at a destination."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.tables import Instance, ReceivedObject, Series
from pacsight.monitoring.metrics import TURNAROUND, modality_label


def observe_turnaround(session: Session, revision_id: int, now: float) -> None:
    """Count a delivery of a revision's results; one that holds nothing new, a replay, isn't one."""
    found = session.execute(
        select(Series.modality, func.max(ReceivedObject.received_at))
        .join(Instance, Instance.series_id == Series.id)
        .join(ReceivedObject, Instance.received_object_id == ReceivedObject.id)
        .where(Instance.revision_id == revision_id)
        .group_by(Series.modality)
        .order_by(func.count().desc())
        .limit(1)
    ).one_or_none()
    if found is not None:
        modality, received_at = found
        TURNAROUND.labels(modality_label(modality)).observe(max(0.0, now - received_at))
