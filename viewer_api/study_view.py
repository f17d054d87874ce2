"""Everything that a results page shows of a study, read from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inference.registry import ModelPackage, Registry
from ledger.domain import InstanceFacts, ObjectState
from ledger.queries import find_study, study_report, study_state
from ledger.tables import (
    Decision,
    Instance,
    Job,
    PredictionRow,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from ledger.web_tables import Review, UploadFile, UserAccount
from viewer_api.errors import PageNotFoundError

SETTLED = frozenset({"done", "failed", "not analysed", "undelivered"})


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
        "refusals": [one for one in decisions if not one["is_accepted"]],
        "failures": [] if revision is None else _failures(session, revision),
        "events": report["events"],
    }


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
    return {
        "id": row.id,
        "sop_instance_uid": row.sop_instance_uid,
        "findings": sorted(summary["findings"], key=lambda one: -one["probability"]),
        "boxes": [
            (label, [box["score"] for box in summary["boxes"] if box["label"] == label])
            for label in _labels(summary["boxes"])
        ],
        "segments": summary["segments"],
        "heatmap": summary["heatmap"],
        "seconds": row.seconds,
    }


def _labels(boxes: list[dict[str, Any]]) -> list[str]:
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


def viewer_data(session: Session, study: Study) -> dict[str, Any]:
    """Return what the image viewer needs: series with their images, and what lies over them."""
    rows = session.execute(
        select(Series, Instance, ReceivedObject)
        .join(Instance, Instance.series_id == Series.id)
        .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
        .where(Series.study_id == study.id, Instance.is_current)
        .where(ReceivedObject.state != ObjectState.EXPIRED)
        .order_by(Series.series_number, Series.id, Instance.id)
    )
    series: dict[int, dict[str, Any]] = {}
    order: dict[int, list[tuple[int, str, int, int]]] = {}
    for one, instance, _ in rows:
        facts = InstanceFacts.from_json(instance.facts)
        if not facts.has_pixel_data:
            continue
        series.setdefault(one.id, {"modality": one.modality, "description": one.series_description})
        is_grey = facts.photometric_interpretation.startswith("MONOCHROME")
        frames = max(1, facts.number_of_frames) if is_grey else 1
        order.setdefault(one.id, []).extend(
            (facts.instance_number, instance.sop_instance_uid, frame, instance.id)
            for frame in range(1, frames + 1)
        )
    for key, places in order.items():
        series[key]["images"] = [
            {"id": id_, "uid": uid, "frame": frame} for _, uid, frame, id_ in sorted(places)
        ]
    revision = session.scalar(
        select(Revision)
        .where(Revision.study_id == study.id)
        .order_by(Revision.number.desc())
        .limit(1)
    )
    layers: list[dict[str, Any]] = []
    if revision is not None:
        layers = _layers(session, revision)
        sort_like_volumes(series, layers)
    return {"series": list(series.values()), "layers": layers}


def _layers(session: Session, revision: Revision) -> list[dict[str, Any]]:
    """Return heatmaps, masks and boxes: each names its images and where its picture is."""
    rows = session.execute(
        select(PredictionRow, Decision.model_id)
        .join(Decision, Decision.id == PredictionRow.decision_id)
        .where(Decision.revision_id == revision.id)
        .order_by(PredictionRow.decision_id, PredictionRow.id)
    ).all()
    layers = []
    for row, model_id in rows:
        summary = row.summary
        base = {"prediction": row.id, "model": model_id, "places": places_of(summary)}
        if summary["heatmap"]:
            key, label = f"{row.id}-heatmap", summary["heatmap"]["label"]
            layers.append({**base, "kind": "heatmap", "key": key, "label": label})
        for number, segment in enumerate(summary["segments"]):
            if segment["voxels"]:
                key = f"{row.id}-mask-{number}"
                layers.append(
                    {
                        **base,
                        "kind": "mask",
                        "key": key,
                        "number": number,
                        "label": segment["label"],
                    }
                )
        for number, label in enumerate(_labels(summary["boxes"])):
            boxes = [box for box in summary["boxes"] if box["label"] == label]
            layers.append(
                {
                    **base,
                    "kind": "boxes",
                    "key": f"{row.id}-boxes-{number}",
                    "number": number,
                    "label": label,
                    "boxes": [
                        [box["x_min"], box["y_min"], box["x_max"], box["y_max"], box["score"]]
                        for box in boxes
                    ],
                }
            )
    return layers


def places_of(summary: dict[str, Any]) -> list[tuple[str, int]]:
    """Return SOP Instance UID and frame of each slice that a prediction is about.

    None if they aren't known: of several frames their numbers were not always kept.
    """
    uids = summary["sop_instance_uids"]
    frames = summary.get("frame_numbers") or [1] * len(uids)
    places = list(zip(uids, frames, strict=True))
    return places if len(set(places)) == len(places) else []


def sort_like_volumes(series: dict[int, dict[str, Any]], layers: list[dict[str, Any]]) -> None:
    """Show slices in the order in which a model of series took them: by their place in space."""
    for layer in layers:
        places = {place: number for number, place in enumerate(layer["places"])}
        if len(places) < 2:
            continue
        for one in series.values():
            if all((image["uid"], image["frame"]) in places for image in one["images"]):
                one["images"].sort(key=lambda image: places[image["uid"], image["frame"]])
