"""Predictions to DICOM results: written, checked, and put into the outbox."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.model_result import ImageResult, Predecessor, ResultObject, VolumeResult
from dicom_out.results import encode_results, encode_volume
from inference.registry import ModelPackage, Registry
from ledger.database import reading, transaction
from ledger.domain import DeliveryState
from ledger.events import record
from ledger.tables import Decision, Delivery, PredictionRow, ResultObjectRow, Revision
from pacsight.analysis import describe_model
from pacsight.errors import StageError
from pacsight.stages.context import (
    StageContext,
    accepted_decision,
    source_image,
    source_volume,
    study_of,
    takes_series,
    write_durably,
)
from pacsight.stages.predict import load_prediction
from pacsight.work import Work

RESULTS = "results"


def encode_decision(context: StageContext, work: Work) -> Sequence[Work]:
    """Write the result objects of one decision; the dispatcher delivers what the outbox holds."""
    with reading(context.database) as session:
        decision = accepted_decision(session, work.decision_id)
        study_uid = study_of(session, work.revision_id).study_instance_uid
        revision = session.get_one(Revision, work.revision_id)
        predictions = session.scalars(
            select(PredictionRow)
            .where(PredictionRow.decision_id == decision.id)
            .order_by(PredictionRow.sop_instance_uid)
        ).all()
        if _is_encoded(session, decision.id):
            return []
        supersedes = _earlier_reports(session, revision, decision.model_id)
    model = describe_model(_package(context.registry, decision))
    seed = f"{study_uid}/{revision.number}/{decision.model_id}/{decision.model_digest}"
    now = datetime.fromtimestamp(context.clock()).astimezone()
    if takes_series(context, decision):
        volume = _volume_result(context, work, predictions[0])
        objects = encode_volume(volume, model=model, seed=seed, now=now, supersedes=supersedes)
    else:
        results = [_image_result(context, work, row) for row in predictions]
        objects = encode_results(results, model=model, seed=seed, now=now, supersedes=supersedes)
    paths = [_write(context.settings.data_dir, decision.id, item) for item in objects]
    with transaction(context.database) as session:
        if not _is_encoded(session, decision.id):
            _fill_outbox(context, session, decision, list(zip(objects, paths, strict=True)))
            record(
                session,
                actor="worker",
                action="results.written",
                subject=study_uid,
                detail={"model": decision.model_id, "objects": len(objects)},
                now=context.clock(),
            )
    return []


def _is_encoded(session: Session, decision_id: int) -> bool:
    query = select(ResultObjectRow.id).where(ResultObjectRow.decision_id == decision_id).limit(1)
    return session.scalar(query) is not None


def _earlier_reports(session: Session, revision: Revision, model_id: str) -> list[Predecessor]:
    """Return the newest report of a model about an earlier revision of the study, if there is one.

    That one names its own predecessor, and so on.
    """
    row = session.scalar(
        select(ResultObjectRow)
        .join(Decision, ResultObjectRow.decision_id == Decision.id)
        .join(Revision, Decision.revision_id == Revision.id)
        .where(
            Revision.study_id == revision.study_id,
            Revision.number < revision.number,
            Decision.model_id == model_id,
            ResultObjectRow.kind == "sr",
        )
        .order_by(Revision.number.desc())
        .limit(1)
    )
    if row is None:
        return []
    return [Predecessor(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid)]


def _package(registry: Registry, decision: Decision) -> ModelPackage:
    for package in registry.models:
        identity = package.identity
        if (identity.model_id, identity.version, identity.digest) == (
            decision.model_id,
            decision.model_version,
            decision.model_digest,
        ):
            return package
    raise StageError(
        f"Model {decision.model_id} {decision.model_version} is no longer installed; "
        "replay the study."
    )


def _image_result(context: StageContext, work: Work, row: PredictionRow) -> ImageResult:
    image = source_image(context, work.revision_id, row.sop_instance_uid)
    if image.dataset is None:
        raise StageError("The source is no DICOM object; replay the study.")
    return ImageResult(
        prediction=load_prediction(row, context.settings.data_dir),
        source=image.dataset,
        display=image.display,
    )


def _volume_result(context: StageContext, work: Work, row: PredictionRow) -> VolumeResult:
    prediction = load_prediction(row, context.settings.data_dir)
    volume = source_volume(context, work.revision_id, prediction.sop_instance_uids)
    return VolumeResult(prediction=prediction, sources=volume.headers, display=volume.display)


def _write(data_dir: Path, decision_id: int, item: ResultObject) -> Path:
    path = Path(RESULTS) / str(decision_id) / f"{item.sop_instance_uid}.dcm"
    write_durably(data_dir / path, item.data)
    return path


def _fill_outbox(
    context: StageContext,
    session: Session,
    decision: Decision,
    written: Sequence[tuple[ResultObject, Path]],
) -> None:
    now = context.clock()
    for item, path in written:
        row = ResultObjectRow(
            decision_id=decision.id,
            kind=item.kind,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            series_instance_uid=item.series_instance_uid,
            path=str(path),
            size=len(item.data),
            sha256=hashlib.sha256(item.data).hexdigest(),
            created_at=now,
        )
        session.add(row)
        session.flush()
        session.add_all(
            Delivery(
                result_object_id=row.id,
                destination=destination.name,
                state=DeliveryState.PENDING,
                attempts=0,
                queued_at=now,
                next_attempt_at=now,
            )
            for destination in context.settings.destinations
        )
