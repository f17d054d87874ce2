"""Refusals as results: why no model answered, for the destinations that want to be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version

from pydicom import Dataset
from sqlalchemy import select

from dicom_out.model_result import ModelDescription, Predecessor, ResultObject
from dicom_out.profile import Profile
from dicom_out.refusal import encode_refusal
from ledger.database import reading
from ledger.domain import ModelIdentity, Refusal
from ledger.product import PRODUCT
from ledger.tables import Decision, Revision
from pacsight.model_description import describe_model
from pacsight.settings import Settings
from pacsight.stages.context import (
    StageContext,
    instances_of,
    package_of,
    source_headers,
    study_of,
    take_decided_patient,
)
from pacsight.work import Work


def are_wanted(settings: Settings) -> bool:
    """Whether any destination wants to be told why a study was not analysed."""
    return any(settings.profile_of(one).refusals for one in settings.destinations)


def refusal_encoder(
    context: StageContext,
    work: Work,
    decision: Decision,
    supersedes: Callable[[Decision, Profile], Sequence[Predecessor]],
) -> Callable[[Profile], list[ResultObject]]:
    """Return what writes the refusal that a decision stands for.

    A decision that named images was refused by its model's gate and speaks for itself. One that
    names none speaks for all of its revision: no model takes the study.
    """
    by_gate = bool(decision.sop_instance_uids)
    with reading(context.database) as session:
        study_uid = study_of(session, work.revision_id).study_instance_uid
        number = session.get_one(Revision, work.revision_id).number
        query = select(Decision).where(Decision.revision_id == work.revision_id)
        decisions = [decision] if by_gate else session.scalars(query.order_by(Decision.id)).all()
        instances = instances_of(session, work.revision_id)
        first = {one.series_id: one.sop_instance_uid for one in reversed(instances)}
        uids = decision.sop_instance_uids[:1] if by_gate else sorted(first.values())
    sources: list[Dataset] = list(source_headers(context, work.revision_id, uids))
    take_decided_patient(context, work.revision_id, sources)
    model = describe_model(package_of(context, decision)) if by_gate else _ourselves()
    now = datetime.fromtimestamp(context.clock()).astimezone()
    reasons = [
        (f"{one.model_id} {one.model_version}", Refusal(one.code or "", one.message or ""))
        for one in decisions
    ]

    def supersedes_all(profile: Profile) -> list[Predecessor]:
        return list(dict.fromkeys(item for one in decisions for item in supersedes(one, profile)))

    return lambda profile: encode_refusal(
        reasons,
        sources,
        model=model,
        seed=f"{study_uid}/{number}/refusal/{decision.model_id if by_gate else ''}",
        now=now,
        profile=profile,
        supersedes=supersedes_all(profile),
    )


def _ourselves() -> ModelDescription:
    """Return who speaks for all models: the program that asked them."""
    number = version("pacsight")
    return ModelDescription(
        identity=ModelIdentity("pacsight", number, number, f"{PRODUCT} routing"),
        intended_use="Choosing the models that apply to a study",
        research_statement="For research use only; not a medical device",
    )
