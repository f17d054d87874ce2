"""Which model takes which images of a study, and why the others don't. Pure.

Each image is judged alone (:mod:`inference.admission`); of all refusals the one that came furthest
is reported, because it says what would have to change. A model that takes one series then chooses
among those that are left (:mod:`inference.series_selection`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inference.admission import describe_taken, furthest, judge_image
from inference.manifest import Manifest
from inference.series_selection import choose_series
from ledger.domain import InstanceFacts, Refusal, RoutingDecision

NO_APPLICABLE_MODEL = "NO_APPLICABLE_MODEL"


def route(
    instances: Sequence[InstanceFacts], manifests: Sequence[Manifest]
) -> list[RoutingDecision]:
    """Decide for each model, in the given order, which images it takes.

    Parameters
    ----------
    instances
        The study; the order doesn't matter.
    manifests
        The installed models.

    Returns
    -------
    list[RoutingDecision]
        One for each model: SOP Instances by series, instance number and UID, with a sentence that
        says what fits; or a refusal.
    """
    ordered = sorted(
        instances, key=lambda one: (one.series_number, one.instance_number, one.sop_instance_uid)
    )
    return [_explained(_decide(ordered, manifest), ordered) for manifest in manifests]


def refuse_instance(facts: InstanceFacts, manifest: Manifest) -> Refusal | None:
    """Return why a model doesn't take an image, or None if it does."""
    return judge_image(facts, manifest)[1]


def study_refusal(decisions: Sequence[RoutingDecision]) -> Refusal | None:
    """Return why a study is not analysed at all, or None if a model applies."""
    if any(decision.is_accepted for decision in decisions):
        return None
    if not decisions:
        return Refusal(NO_APPLICABLE_MODEL, "Not analysed because no model is installed.")
    reasons = " ".join(
        f"{decision.model.model_id}: {decision.refusal.message}"
        for decision in decisions
        if decision.refusal is not None
    )
    return Refusal(NO_APPLICABLE_MODEL, f"Not analysed because no model applies. {reasons}")


def _explained(decision: RoutingDecision, ordered: Sequence[InstanceFacts]) -> RoutingDecision:
    if not decision.is_accepted:
        return decision
    uids = set(decision.sop_instance_uids)
    taken = [facts for facts in ordered if facts.sop_instance_uid in uids]
    return replace(decision, reason=describe_taken(taken, len(ordered)))


def _decide(ordered: Sequence[InstanceFacts], manifest: Manifest) -> RoutingDecision:
    if not ordered:
        return RoutingDecision(manifest.identity, (), Refusal("NO_IMAGES", "The study is empty."))
    judged = [(facts, *judge_image(facts, manifest)) for facts in ordered]
    if manifest.takes_one_series:
        return choose_series(judged, manifest)
    taken = [facts.sop_instance_uid for facts, _, refusal in judged if refusal is None]
    if taken:
        return RoutingDecision(manifest.identity, tuple(taken))
    return RoutingDecision(manifest.identity, (), furthest(judged))
