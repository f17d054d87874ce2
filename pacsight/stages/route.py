"""Which models apply to a complete study, and why the others don't."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inference.manifest import Manifest
from inference.routing import refuse_instance, route, study_refusal
from ledger.choices import switched_off, upload_of
from ledger.database import transaction
from ledger.domain import InstanceFacts, Refusal, RoutingDecision
from ledger.events import record
from ledger.tables import Decision, Revision, Study
from pacsight.stages.context import StageContext, instances_of, study_of
from pacsight.stages.refuse import are_wanted
from pacsight.work import Stage, Work, job_queued


def route_revision(context: StageContext, work: Work) -> Sequence[Work]:
    """Write one decision per model, refusals included; return a prediction per acceptance."""
    now = context.clock()
    with transaction(context.database) as session:
        # A worker that was taken for dead may come back and finish the same.
        session.get_one(Revision, work.revision_id, with_for_update=True)
        decisions = session.scalars(
            select(Decision).where(Decision.revision_id == work.revision_id)
        ).all()
        if not decisions:
            facts = [
                InstanceFacts.from_json(instance.facts)
                for instance in instances_of(session, work.revision_id)
            ]
            manifests = _asked(session, work.revision_id, context.registry.manifests)
            routed = _without_switched_off(session, route(facts, manifests))
            decisions = [_row(work.revision_id, decision, now) for decision in routed]
            session.add_all(decisions)
            session.flush()
            journal = _Journal(session, study_of(session, work.revision_id), now)
            journal.study(routed)
            for answer, manifest in zip(routed, manifests, strict=True):
                if answer.is_accepted:
                    journal.images_left_out(facts, manifest)
                    journal.series_left_out(answer)
        following = []
        for decision in decisions:
            if decision.is_accepted:
                unit = replace(work, stage=Stage.PREDICT, decision_id=decision.id)
                job_queued(session, unit, decision.model_id, now)
                following.append(unit)
        if decisions and not following and are_wanted(context.settings):
            unit = replace(work, stage=Stage.ENCODE, decision_id=decisions[0].id)
            job_queued(session, unit, "refusal", now)
            following.append(unit)
    return following


def _asked(session: Session, revision_id: int, manifests: Sequence[Manifest]) -> Sequence[Manifest]:
    """Return the models to ask: all, or the one that somebody chose for an upload."""
    upload = upload_of(session, revision_id)
    if upload is None or upload.model_id is None:
        return manifests
    return [manifest for manifest in manifests if manifest.id == upload.model_id]


def _without_switched_off(
    session: Session, decisions: Sequence[RoutingDecision]
) -> list[RoutingDecision]:
    off = switched_off(session)
    refusal = Refusal("MODEL_SWITCHED_OFF", "An administrator has switched this model off.")
    return [
        RoutingDecision(decision.model, (), refusal) if decision.model.model_id in off else decision
        for decision in decisions
    ]


def _row(revision_id: int, decision: RoutingDecision, now: float) -> Decision:
    return Decision(
        revision_id=revision_id,
        model_id=decision.model.model_id,
        model_version=decision.model.version,
        model_digest=decision.model.digest,
        is_accepted=decision.is_accepted,
        code=decision.refusal.code if decision.refusal else None,
        message=decision.refusal.message if decision.refusal else decision.reason,
        sop_instance_uids=list(decision.sop_instance_uids),
        created_at=now,
    )


@dataclass(frozen=True, slots=True)
class _Journal:
    session: Session
    about: Study
    now: float

    def study(self, decisions: Sequence[RoutingDecision]) -> None:
        refusal = study_refusal(decisions)
        if refusal is not None:
            self._record("study.refused", asdict(refusal))
            return
        accepted = [decision.model.model_id for decision in decisions if decision.is_accepted]
        self._record("study.routed", {"models": accepted})

    def images_left_out(self, facts: Sequence[InstanceFacts], manifest: Manifest) -> None:
        """Say which images of the study a model that applies did not take, by reason."""
        refusals = [refuse_instance(item, manifest) for item in facts]
        counts = Counter((one.code, one.message) for one in refusals if one is not None)
        for (code, message), count in counts.items():
            detail = {"model": manifest.id, "code": code, "message": message, "images": count}
            self._record("images.refused", detail)

    def series_left_out(self, decision: RoutingDecision) -> None:
        """Say why a model that takes one series did not take the others."""
        for answer in decision.series:
            if answer.refusal is not None:
                self._record(
                    "series.refused",
                    {
                        "model": decision.model.model_id,
                        "series": answer.series_number,
                        "part": answer.part,
                        "images": answer.images,
                        **asdict(answer.refusal),
                    },
                )

    def _record(self, action: str, detail: dict[str, Any]) -> None:
        uid = self.about.study_instance_uid
        record(
            self.session, actor="worker", action=action, subject=uid, detail=detail, now=self.now
        )
