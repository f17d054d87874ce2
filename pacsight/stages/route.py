"""Which models apply to a complete study, and why the others don't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session

from inference.routing import route, study_refusal
from ledger.database import transaction
from ledger.domain import InstanceFacts, RoutingDecision
from ledger.events import record
from ledger.tables import Decision
from pacsight.stages.context import StageContext, instances_of, study_of
from pacsight.work import Stage, Work, job_queued


def route_revision(context: StageContext, work: Work) -> Sequence[Work]:
    """Write one decision per model, refusals included; return a prediction per acceptance."""
    now = context.clock()
    with transaction(context.database) as session:
        decisions = session.scalars(
            select(Decision).where(Decision.revision_id == work.revision_id)
        ).all()
        if not decisions:
            facts = [
                InstanceFacts.from_json(instance.facts)
                for instance in instances_of(session, work.revision_id)
            ]
            routed = route(facts, context.registry.manifests)
            decisions = [_row(work.revision_id, decision, now) for decision in routed]
            session.add_all(decisions)
            session.flush()
            _journal(session, work, routed, now)
        following = []
        for decision in decisions:
            if decision.is_accepted:
                unit = Work(Stage.PREDICT, work.revision_id, decision_id=decision.id)
                job_queued(session, unit, decision.model_id, now)
                following.append(unit)
    return following


def _row(revision_id: int, decision: RoutingDecision, now: float) -> Decision:
    return Decision(
        revision_id=revision_id,
        model_id=decision.model.model_id,
        model_version=decision.model.version,
        model_digest=decision.model.digest,
        is_accepted=decision.is_accepted,
        code=decision.refusal.code if decision.refusal else None,
        message=decision.refusal.message if decision.refusal else None,
        sop_instance_uids=list(decision.sop_instance_uids),
        created_at=now,
    )


def _journal(
    session: Session, work: Work, decisions: Sequence[RoutingDecision], now: float
) -> None:
    refusal = study_refusal(decisions)
    accepted = [decision.model.model_id for decision in decisions if decision.is_accepted]
    record(
        session,
        actor="worker",
        action="study.routed" if refusal is None else "study.refused",
        subject=study_of(session, work.revision_id).study_instance_uid,
        detail={"models": accepted} if refusal is None else asdict(refusal),
        now=now,
    )
