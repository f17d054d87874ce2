"""What a model has said of the very same objects before: a renamed patient has no new pixels."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.domain import JobState
from ledger.errors import StoreMissingError
from ledger.events import record
from ledger.tables import Decision, Job, PredictionRow, Revision
from pacsight.stages.context import StageContext, instances_of, study_of
from pacsight.work import Stage, Work
from scp.revisions import REPLAYED


def take_over(context: StageContext, work: Work, decision: Decision) -> set[str]:
    """Copy the answers of an earlier revision about the same objects; return the UIDs they name.

    There are some where the same weights of the same model were asked about the same versions of
    the same objects and had come to an end. An operator's replay takes nothing over.
    """
    with reading(context.database) as session:
        if session.get_one(Revision, work.revision_id).reason_code == REPLAYED:
            return set()
        rows = _earlier_answers(session, work.revision_id, decision)
    try:
        copies = [_copy(context, row, decision) for row in rows]
    except StoreMissingError:
        return set()
    with transaction(context.database) as session:
        session.get_one(Decision, decision.id, with_for_update=True)
        query = select(PredictionRow.id).where(PredictionRow.decision_id == decision.id).limit(1)
        if copies and session.scalar(query) is None:
            session.add_all(copies)
            record(
                session,
                actor="worker",
                action="answers.taken_over",
                subject=study_of(session, work.revision_id).study_instance_uid,
                detail={"model": decision.model_id, "decision": rows[0].decision_id},
                now=context.clock(),
            )
    return {row.sop_instance_uid for row in rows}


def _copy(context: StageContext, row: PredictionRow, decision: Decision) -> PredictionRow:
    folder, _, name = row.artifact.split("/")
    artifact = f"{folder}/{decision.id}/{name}"
    context.store.put(artifact, context.store.get(row.artifact))
    return PredictionRow(
        decision_id=decision.id,
        sop_instance_uid=row.sop_instance_uid,
        summary=row.summary,
        artifact=artifact,
        seconds=row.seconds,
        created_at=row.created_at,
    )


def _earlier_answers(
    session: Session, revision_id: int, decision: Decision
) -> Sequence[PredictionRow]:
    revision = session.get_one(Revision, revision_id)
    asked_about = _versions(session, revision_id, decision)
    earlier = session.scalars(
        select(Decision)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(
            Revision.study_id == revision.study_id,
            Revision.number < revision.number,
            Decision.is_accepted,
            Decision.model_id == decision.model_id,
            Decision.model_version == decision.model_version,
            Decision.model_digest == decision.model_digest,
        )
        .order_by(Revision.number.desc())
    )
    for one in earlier:
        job = session.get(Job, Work(Stage.PREDICT, one.revision_id, one.id).key)
        is_done = job is not None and job.state == JobState.DONE
        if is_done and _versions(session, one.revision_id, one) == asked_about:
            rows = select(PredictionRow).where(PredictionRow.decision_id == one.id)
            return session.scalars(rows).all()
    return []


def _versions(session: Session, revision_id: int, decision: Decision) -> dict[str, int]:
    """Return which version of each object a decision is about."""
    wanted = set(decision.sop_instance_uids)
    held = instances_of(session, revision_id)
    return {one.sop_instance_uid: one.id for one in held if one.sop_instance_uid in wanted}
