"""Reports read from the ledger: plain dictionaries for the command line and the web app.

They hold UIDs, codes and counts; of the patient only what a caller asks for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from ledger.tables import (
    Decision,
    Delivery,
    Event,
    Instance,
    Job,
    PatientClaim,
    PredictionRow,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)


def list_studies(session: Session, limit: int = 50) -> list[dict[str, Any]]:
    """Return the newest studies first: UIDs, counts, and the state of the newest revision."""
    studies = session.scalars(select(Study).order_by(Study.last_received_at.desc()).limit(limit))
    return [_summary(session, study) for study in studies]


def find_study(session: Session, study_instance_uid: str) -> Study | None:
    """Return the study of that UID, or None."""
    return session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))


def study_report(session: Session, study: Study) -> dict[str, Any]:
    """Return everything that happened to a study, newest revision last."""
    return {
        **_summary(session, study),
        "series": _series(session, study),
        "quarantined": list_quarantined(session, study=study),
        "revisions": [_revision(session, revision) for revision in _revisions(session, study)],
        "events": _events(session, study),
    }


def _summary(session: Session, study: Study) -> dict[str, Any]:
    revisions = _revisions(session, study)
    return {
        "study_instance_uid": study.study_instance_uid,
        "accession_number": study.accession_number,
        "modalities": sorted({row["modality"] for row in _series(session, study)}),
        "instances": sum(row["instances"] for row in _series(session, study)),
        "last_received_at": study.last_received_at,
        "state": _state(session, study, revisions),
        "held_because": _reason(study.held_code, study.held_reason),
        "revision": revisions[-1].number if revisions else 0,
    }


def study_state(session: Session, study: Study) -> str:
    """Return the state of a study in one word, as in :func:`list_studies`."""
    return _state(session, study, _revisions(session, study))


def study_counts(session: Session, study: Study) -> tuple[int, list[str]]:
    """Return how many current instances a study has, and of which modalities."""
    rows = session.execute(
        select(Series.modality, func.count(Instance.id))
        .outerjoin(Instance, (Instance.series_id == Series.id) & Instance.is_current)
        .where(Series.study_id == study.id)
        .group_by(Series.modality)
    ).all()
    return sum(count for _, count in rows), sorted(modality for modality, _ in rows)


def _reason(code: str | None, reason: str | None) -> dict[str, str | None] | None:
    return None if code is None else {"code": code, "reason": reason}


def list_patients(session: Session, study: Study) -> list[dict[str, Any]]:
    """Return whose a study is as its headers say, with how many instances say so. PHI."""
    instances = (
        select(Instance.patient_claim, func.count().label("instances"))
        .join(Series)
        .where(Series.study_id == study.id, Instance.is_current)
        .group_by(Instance.patient_claim)
        .subquery()
    )
    rows = session.execute(
        select(PatientClaim, func.coalesce(instances.c.instances, 0))
        .outerjoin(instances, instances.c.patient_claim == PatientClaim.number)
        .where(PatientClaim.study_id == study.id)
        .order_by(PatientClaim.number)
    )
    return [
        {
            "number": claim.number,
            "patient_id": claim.patient_id,
            "patient_name": claim.patient_name,
            "patient_birth_date": claim.patient_birth_date,
            "instances": count,
            "is_accepted": claim.is_accepted,
        }
        for claim, count in rows
    ]


def _state(session: Session, study: Study, revisions: Sequence[Revision]) -> str:
    """Return held, receiving, waiting, working, failed, not analysed, delivering, done or such."""
    if study.held_code is not None:
        return "held"
    if study.open_since is not None:
        return "receiving"
    if not revisions or revisions[-1].started_at is None:
        return "waiting"
    newest = revisions[-1].id
    # The outbox tells of deliveries: of their jobs some may fail before one succeeds.
    jobs = set(
        session.scalars(select(Job.state).where(Job.revision_id == newest, Job.stage != "deliver"))
    )
    deliveries = set(
        session.scalars(
            select(Delivery.state)
            .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
            .join(Decision, ResultObjectRow.decision_id == Decision.id)
            .where(Decision.revision_id == newest)
        )
    )
    accepted = session.scalar(
        select(func.count()).where(Decision.revision_id == newest, Decision.is_accepted)
    )
    if "pending" in deliveries:
        return "delivering"
    if jobs & {"queued", "running"}:
        return "working"
    if "failed" in jobs:
        return "failed"
    if not accepted:
        return "not analysed"
    return "undelivered" if "dead" in deliveries else "done"


def _revisions(session: Session, study: Study) -> list[Revision]:
    query = select(Revision).where(Revision.study_id == study.id).order_by(Revision.number)
    return list(session.scalars(query))


def _series(session: Session, study: Study) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Series, func.count(Instance.id))
        .outerjoin(Instance, (Instance.series_id == Series.id) & Instance.is_current)
        .where(Series.study_id == study.id)
        .group_by(Series.id)
        .order_by(Series.series_number, Series.id)
    )
    return [
        {
            "series_instance_uid": series.series_instance_uid,
            "modality": series.modality,
            "series_description": series.series_description,
            "instances": count,
        }
        for series, count in rows
    ]


def _revision(session: Session, revision: Revision) -> dict[str, Any]:
    decisions = session.scalars(
        select(Decision).where(Decision.revision_id == revision.id).order_by(Decision.model_id)
    )
    failed = session.scalars(
        select(Job).where(Job.revision_id == revision.id, Job.error_code.is_not(None))
    )
    return {
        "number": revision.number,
        "complete_because": {
            "code": revision.reason_code,
            "reason": revision.reason,
            "confidence": revision.confidence,
        },
        "is_stat": revision.is_stat,
        "superseded_by": revision.superseded_by,
        "created_at": revision.created_at,
        "decisions": [_decision(session, decision) for decision in decisions],
        "failures": [
            {"job": job.id, "code": job.error_code, "message": job.error} for job in failed
        ],
    }


def _decision(session: Session, decision: Decision) -> dict[str, Any]:
    predictions = session.scalars(
        select(PredictionRow)
        .where(PredictionRow.decision_id == decision.id)
        .order_by(PredictionRow.sop_instance_uid)
    )
    refusal = {"code": decision.code, "message": decision.message}
    return {
        "model": decision.model_id,
        "version": decision.model_version,
        "digest": decision.model_digest,
        "refused": None if decision.is_accepted else refusal,
        "applies_because": decision.message if decision.is_accepted else None,
        "predictions": [
            {
                "sop_instance_uid": row.sop_instance_uid,
                "findings": row.summary["findings"],
                "boxes": row.summary["boxes"],
                "segments": row.summary["segments"],
                "key_slice": row.summary.get("key_slice"),
                "seconds": row.seconds,
            }
            for row in predictions
        ],
        "results": _results(session, decision.id),
    }


def _results(session: Session, decision_id: int) -> list[dict[str, Any]]:
    rows = session.scalars(
        select(ResultObjectRow)
        .where(ResultObjectRow.decision_id == decision_id)
        .order_by(ResultObjectRow.id)
    )
    return [
        {
            "kind": row.kind,
            "sop_instance_uid": row.sop_instance_uid,
            "series_instance_uid": row.series_instance_uid,
            "path": row.path,
            "deliveries": list_deliveries(session, result_object_id=row.id),
        }
        for row in rows
    ]


def list_deliveries(
    session: Session,
    *,
    result_object_id: int | None = None,
    state: str | None = None,
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Return outbox rows, newest first."""
    query = (
        select(Delivery, ResultObjectRow, Study.study_instance_uid)
        .join(ResultObjectRow, Delivery.result_object_id == ResultObjectRow.id)
        .join(Decision, Decision.id == ResultObjectRow.decision_id)
        .join(Revision, Revision.id == Decision.revision_id)
        .join(Study, Study.id == Revision.study_id)
        .order_by(Delivery.id.desc())
        .limit(limit)
    )
    if result_object_id is not None:
        query = query.where(Delivery.result_object_id == result_object_id)
    if state is not None:
        query = query.where(Delivery.state == state)
    return [
        {
            "id": row.id,
            "destination": row.destination,
            "kind": item.kind,
            "sop_instance_uid": item.sop_instance_uid,
            "study_instance_uid": study,
            "state": row.state,
            "attempts": row.attempts,
            "last_status": row.last_status,
            "last_error": row.last_error,
            "queued_at": row.queued_at,
            "next_attempt_at": row.next_attempt_at,
            "delivered_at": row.delivered_at,
            "proof": row.proof,
        }
        for row, item, study in session.execute(query)
    ]


def list_quarantined(
    session: Session, limit: int = 100, *, study: Study | None = None
) -> list[dict[str, Any]]:
    """Return received objects that could not be read, newest first, with the reason.

    Parameters
    ----------
    study
        Only those that came by the associations of this study; whose they are can't be read.
    """
    query = select(ReceivedObject).where(ReceivedObject.state == "quarantined")
    if study is not None:
        associations = (
            select(ReceivedObject.association_id)
            .join(Instance, Instance.received_object_id == ReceivedObject.id)
            .join(Series, Series.id == Instance.series_id)
            .where(Series.study_id == study.id)
        )
        query = query.where(ReceivedObject.association_id.in_(associations))
    rows = session.scalars(query.order_by(ReceivedObject.id.desc()).limit(limit))
    return [
        {
            "id": row.id,
            "sop_instance_uid": row.sop_instance_uid,
            "received_at": row.received_at,
            "code": row.reason_code,
            "reason": row.reason,
        }
        for row in rows
    ]


def _events(session: Session, study: Study) -> list[dict[str, Any]]:
    instances = select(Instance.sop_instance_uid).join(Series).where(Series.study_id == study.id)
    results = (
        select(ResultObjectRow.sop_instance_uid)
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(Revision.study_id == study.id)
    )
    about = (
        Event.subject == study.study_instance_uid,
        Event.subject.in_(instances),
        Event.subject.in_(results),
    )
    rows = session.scalars(select(Event).where(or_(*about)).order_by(Event.id))
    return [
        {
            "at": row.at,
            "actor": row.actor,
            "action": row.action,
            "subject": row.subject,
            "detail": row.detail,
        }
        for row in rows
    ]
