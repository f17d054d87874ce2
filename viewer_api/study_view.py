"""Everything that a results page shows of a study, read from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inference.registry import ModelPackage, Registry
from ledger.domain import InstanceFacts
from ledger.queries import find_study, study_report, study_state
from ledger.slices import images_left_out
from ledger.tables import (
    Decision,
    Instance,
    Job,
    PredictionRow,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from ledger.web_tables import Review, UploadFile, UserAccount
from viewer_api.errors import PageNotFoundError

SETTLED = frozenset({"done", "failed", "not analysed", "undelivered", "held"})
"""Nothing goes on by itself."""
SHOWN = 5
"""Findings that are seen at once; more below their thresholds on demand."""


def study_or_404(session: Session, uid: str) -> Study:
    """Return a study.

    Raises
    ------
    PageNotFoundError
        It was never received.
    """
    study = find_study(session, uid)
    if study is None:
        raise PageNotFoundError("There is no such study here.")
    return study


def is_expected(session: Session, uid: str) -> bool:
    """Tell whether an upload of that study was taken, which will show in a moment."""
    query = select(UploadFile.id).where(UploadFile.study_instance_uid == uid).limit(1)
    return session.scalar(query) is not None


def person(name: str) -> str:
    """Return a PN for reading: alphabetic representation, family name first."""
    parts = [part.strip() for part in name.split("=", 1)[0].split("^")[:3]]
    given = " ".join(part for part in parts[1:] if part)
    return ", ".join(part for part in (parts[0], given) if part) or "–"


def date(value: str) -> str:
    """Return a DA as ISO date."""
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 else value or "–"


def progress_of(session: Session, study: Study) -> str:
    """Return state, newest revision and how many models have answered about it.

    Whenever that differs, the page of the study has something new: answers are shown before their
    DICOM objects are written.
    """
    number, answers = session.execute(
        select(Revision.number, func.count(PredictionRow.decision_id.distinct()))
        .outerjoin(Decision, Decision.revision_id == Revision.id)
        .outerjoin(PredictionRow, PredictionRow.decision_id == Decision.id)
        .where(Revision.study_id == study.id)
        .group_by(Revision.id)
        .order_by(Revision.number.desc())
        .limit(1)
    ).one_or_none() or (0, 0)
    return f"{study_state(session, study)}/{number}/{answers}"


def view_study(session: Session, study: Study, registry: Registry) -> dict[str, Any]:
    """Return a study, its newest revision's answers, and what happened to it."""
    report = study_report(session, study)
    revision = session.scalar(
        select(Revision)
        .where(Revision.study_id == study.id)
        .order_by(Revision.number.desc())
        .limit(1)
    )
    decisions = [] if revision is None else _decisions(session, revision, registry)
    _tell_what_is_left_out(session, study, decisions)
    return {
        "study": study,
        "patient": person(study.patient_name),
        "born": date(study.patient_birth_date),
        "date": date(study.study_date),
        "state": report["state"],
        "progress": progress_of(session, study),
        "is_settled": report["state"] in SETTLED,
        "report": report,
        "revision": revision,
        "answers": [one for one in decisions if one["is_accepted"]],
        "first_heatmap": _first_heatmap(decisions),
        "refusals": [one for one in decisions if not one["is_accepted"]],
        "failures": [] if revision is None else _failures(session, revision),
        "sent": _sent(report["revisions"][-1]) if report["revisions"] else [],
        "events": report["events"],
    }


def _first_heatmap(decisions: Sequence[dict[str, Any]]) -> int | None:
    """Return the answer whose heatmap is seen first: about a finding, if there is one."""
    answers = [one for decision in decisions for one in decision["predictions"] if one["heatmap"]]
    found = (one for one in answers if one["heatmap"]["label"] in _positive(one["findings"]))
    first = next(found, answers[0] if answers else None)
    return first["id"] if first else None


def _positive(findings: list[dict[str, Any]]) -> set[str]:
    return {one["label"] for one in findings if one["probability"] >= one["threshold"]}


def _sent(revision: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how many results are on their way to each destination, are there, or were given up."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for decision in revision["decisions"]:
        for result in decision["results"]:
            for one in result["deliveries"]:
                key = one["destination"], one["state"]
                row = found.setdefault(key, {"destination": key[0], "state": key[1], "count": 0})
                row["count"] += 1
                row["at"] = max(one["delivered_at"] or 0.0, row.get("at", 0.0))
                row["error"] = one["last_error"] or row.get("error", "")
    return [found[key] for key in sorted(found)]


def _decisions(session: Session, revision: Revision, registry: Registry) -> list[dict[str, Any]]:
    packages = {one.identity.model_id: one for one in registry.models}
    rows = session.scalars(
        select(Decision).where(Decision.revision_id == revision.id).order_by(Decision.model_id)
    ).all()
    return [_decision(session, row, packages.get(row.model_id)) for row in rows]


def _decision(session: Session, row: Decision, package: ModelPackage | None) -> dict[str, Any]:
    manifest = package.manifest if package else None
    predictions = session.scalars(
        select(PredictionRow).where(PredictionRow.decision_id == row.id).order_by(PredictionRow.id)
    ).all()
    results = session.scalars(
        select(ResultObjectRow).where(ResultObjectRow.decision_id == row.id)
    ).all()
    return {
        "id": row.id,
        "model_id": row.model_id,
        "name": manifest.name if manifest else row.model_id,
        "version": row.model_version,
        "digest": row.model_digest,
        "intended_use": manifest.intended_use if manifest else "",
        "pipeline": manifest.pipeline if manifest else "",
        "is_accepted": row.is_accepted,
        "code": row.code,
        "message": row.message,
        "images": len(row.sop_instance_uids),
        "predictions": [_prediction(one) for one in predictions],
        "results": results,
        "reviews": _reviews(session, row.id),
    }


def _prediction(row: PredictionRow) -> dict[str, Any]:
    summary = row.summary
    findings = sorted(summary["findings"], key=_in_order)
    return {
        "id": row.id,
        "slices": summary["sop_instance_uids"],
        "left_out": 0,
        "findings": findings,
        "first": max(SHOWN, len(_positive(findings))),
        "key_slice": summary.get("key_slice"),
        "boxes": _boxes(summary),
        "segments": summary["segments"],
        "segment_sizes": summary.get("segment_sizes", []),
        "heatmap": summary["heatmap"],
        "seconds": row.seconds,
    }


def _tell_what_is_left_out(
    session: Session, study: Study, decisions: Sequence[dict[str, Any]]
) -> None:
    """Note with answers about a volume how many images of its series are no part of it."""
    of_volumes = [
        answer for one in decisions for answer in one["predictions"] if len(answer["slices"]) > 1
    ]
    if not of_volumes:
        return
    rows = session.scalars(
        select(Instance.facts).join(Series).where(Series.study_id == study.id, Instance.is_current)
    )
    facts = [InstanceFacts.from_json(one) for one in rows]
    for answer in of_volumes:
        answer["left_out"] = images_left_out(facts, answer["slices"])


def _boxes(summary: dict[str, Any]) -> list[tuple[str, list[tuple[float, list[list[str]]]]]]:
    """Return labels with the score and the sizes of each of their boxes."""
    sizes = summary.get("box_sizes") or [[] for _ in summary["boxes"]]
    boxes = list(zip(summary["boxes"], sizes, strict=True))
    return [
        (label, [(box["score"], size) for box, size in boxes if box["label"] == label])
        for label in labels_of(summary["boxes"])
    ]


def _in_order(finding: dict[str, Any]) -> tuple[bool, float]:
    """Return what puts findings at or above their thresholds first, then the likeliest."""
    return finding["probability"] < finding["threshold"], -finding["probability"]


def labels_of(boxes: list[dict[str, Any]]) -> list[str]:
    """Return what boxes are called, in the order in which results give them colours."""
    return list(dict.fromkeys(box["label"] for box in boxes))


def _reviews(session: Session, decision_id: int) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Review, UserAccount.name)
        .join(UserAccount, UserAccount.id == Review.user_id)
        .where(Review.decision_id == decision_id)
        .order_by(Review.id.desc())
    )
    return [
        {"verdict": row.verdict, "comment": row.comment, "at": row.created_at, "by": name}
        for row, name in rows
    ]


def _failures(session: Session, revision: Revision) -> Sequence[Job]:
    return session.scalars(
        select(Job).where(Job.revision_id == revision.id, Job.error_code.is_not(None))
    ).all()
