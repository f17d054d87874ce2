"""Predictions to DICOM results: written, checked, and put into the outbox."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from io import BytesIO

from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.model_result import ImageResult, Predecessor, ResultObject, VolumeResult
from dicom_out.profile import Profile
from dicom_out.results import encode_results, encode_volume
from ledger.choices import upload_of
from ledger.database import reading, transaction
from ledger.domain import DeliveryState, InstanceFacts
from ledger.events import record
from ledger.facts import read_facts
from ledger.slices import images_left_out
from ledger.tables import (
    Decision,
    Delivery,
    PredictionRow,
    ResultEncoding,
    ResultObjectRow,
    Revision,
    Study,
)
from pacsight.bundles import UNCOMPRESSED, Addressed, address
from pacsight.errors import StageError
from pacsight.model_description import describe_model
from pacsight.stages.context import (
    StageContext,
    instances_of,
    known_decision,
    package_of,
    source_image,
    source_volume,
    study_of,
    take_decided_patient,
    takes_series,
)
from pacsight.stages.predict import load_prediction
from pacsight.stages.refuse import refusal_encoder
from pacsight.stages.sources import made_here, written_before
from pacsight.work import Work

RESULTS = "results"


def encode_decision(context: StageContext, work: Work) -> Sequence[Work]:
    """Write the result objects of one decision; the dispatcher delivers what the outbox holds."""
    with reading(context.database) as session:
        decision = known_decision(session, work.decision_id)
        study = study_of(session, work.revision_id)
        predictions = session.scalars(
            select(PredictionRow)
            .where(PredictionRow.decision_id == decision.id)
            .order_by(PredictionRow.sop_instance_uid)
        ).all()
        if _is_encoded(session, decision.id):
            return []
    if decision.is_accepted:
        encode = _encoder(context, work, decision, predictions)
    else:
        encode = refusal_encoder(context, work, decision, partial(_earlier_reports, context))
    objects = address(context.settings, encode)
    objects += made_here(context, work.revision_id, predictions)
    for item in objects:
        for encoded in (item.item, *item.encodings.values()):
            context.store.put(_path(decision.id, encoded), encoded.data)
    with transaction(context.database) as session:
        session.get(Study, study.id, with_for_update=True)  # models share their sources
        if not _is_encoded(session, decision.id):
            known = written_before(session, objects)
            new = [item for item in objects if item.item.sop_instance_uid not in known]
            _fill_outbox(context, session, decision, new)
            record(
                session,
                actor="worker",
                action="results.written",
                subject=study.study_instance_uid,
                detail={"model": decision.model_id, "objects": len(objects)},
                now=context.clock(),
            )
    return []


def _encoder(
    context: StageContext, work: Work, decision: Decision, predictions: Sequence[PredictionRow]
) -> Callable[[Profile], list[ResultObject]]:
    """Return what writes the bundle of a profile; everything is read once."""
    with reading(context.database) as session:
        study_uid = study_of(session, work.revision_id).study_instance_uid
        revision = session.get_one(Revision, work.revision_id)
    model = describe_model(package_of(context, decision))
    seed = f"{study_uid}/{revision.number}/{decision.model_id}/{decision.model_digest}"
    now = datetime.fromtimestamp(context.clock()).astimezone()

    supersedes = partial(_earlier_reports, context, decision)
    if takes_series(context, decision):
        volume = _volume_result(context, work, predictions[0])
        return lambda profile: encode_volume(
            volume,
            model=model,
            seed=seed,
            now=now,
            profile=profile,
            supersedes=supersedes(profile),
        )
    results = [_image_result(context, work, row) for row in predictions]
    return lambda profile: encode_results(
        results, model=model, seed=seed, now=now, profile=profile, supersedes=supersedes(profile)
    )


def _is_encoded(session: Session, decision_id: int) -> bool:
    query = select(ResultObjectRow.id).where(ResultObjectRow.decision_id == decision_id).limit(1)
    return session.scalar(query) is not None


def _earlier_reports(
    context: StageContext, decision: Decision, profile: Profile
) -> list[Predecessor]:
    """Return the newest report of a model about an earlier revision of the study, if there is one.

    A refusal that spoke for all models is one of each. Of several variants it is the profile's. It
    names its own predecessor, and so on.
    """
    variant = profile.variant("sr")
    with reading(context.database) as session:
        revision = session.get_one(Revision, decision.revision_id)
        rows = session.execute(
            select(ResultObjectRow, Decision)
            .join(Decision, ResultObjectRow.decision_id == Decision.id)
            .join(Revision, Decision.revision_id == Revision.id)
            .where(
                Revision.study_id == revision.study_id,
                Revision.number < revision.number,
                ResultObjectRow.kind.in_(("sr", "refusal")),
            )
            .order_by(Revision.number.desc(), (ResultObjectRow.variant == variant).desc())
        ).all()
    for row, earlier in rows:
        if earlier.model_id == decision.model_id or not earlier.sop_instance_uids:
            return [Predecessor(row.sop_class_uid, row.sop_instance_uid, row.series_instance_uid)]
    return []


def _image_result(context: StageContext, work: Work, row: PredictionRow) -> ImageResult:
    image = source_image(context, work.revision_id, row.sop_instance_uid)
    if image.dataset is None:
        raise StageError("The source is no DICOM object; replay the study.")
    take_decided_patient(context, work.revision_id, [image.dataset])
    return ImageResult(
        prediction=load_prediction(row, context.store),
        source=image.dataset,
        display=image.display,
    )


def _volume_result(context: StageContext, work: Work, row: PredictionRow) -> VolumeResult:
    prediction = load_prediction(row, context.store)
    volume = source_volume(context, work.revision_id, prediction.sop_instance_uids)
    take_decided_patient(context, work.revision_id, volume.headers)
    with reading(context.database) as session:
        held = instances_of(session, work.revision_id)
        study = [InstanceFacts.from_json(one.facts) for one in held]
    left_out = images_left_out(study, volume.sop_instance_uids)
    return VolumeResult(prediction, volume.headers, volume.display, volume.frame_numbers, left_out)


def _path(decision_id: int, item: ResultObject) -> str:
    """Return where an object's file lies below the data folder."""
    suffix = "" if item.transfer_syntax_uid == UNCOMPRESSED else f".{item.transfer_syntax_uid}"
    return f"{RESULTS}/{decision_id}/{item.sop_instance_uid}{suffix}.dcm"


def _facts(item: ResultObject) -> InstanceFacts:
    return read_facts(dcmread(BytesIO(item.data), stop_before_pixels=True))[0]


def _fill_outbox(
    context: StageContext, session: Session, decision: Decision, objects: Sequence[Addressed]
) -> None:
    now = context.clock()
    upload = upload_of(session, decision.revision_id)
    is_kept = upload is not None and not upload.is_delivered
    for addressed in objects:
        item = addressed.item
        row = ResultObjectRow(
            decision_id=decision.id,
            kind=item.kind,
            variant=item.variant,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            series_instance_uid=item.series_instance_uid,
            path=_path(decision.id, item),
            size=len(item.data),
            sha256=hashlib.sha256(item.data).hexdigest(),
            facts=_facts(item).to_json(),
            created_at=now,
        )
        session.add(row)
        session.flush()
        encodings = {
            encoded.transfer_syntax_uid: ResultEncoding(
                result_object_id=row.id,
                transfer_syntax_uid=encoded.transfer_syntax_uid,
                path=_path(decision.id, encoded),
                size=len(encoded.data),
                sha256=hashlib.sha256(encoded.data).hexdigest(),
            )
            for encoded in addressed.encodings.values()
        }
        session.add_all(encodings.values())
        session.flush()
        session.add_all(
            Delivery(
                result_object_id=row.id,
                encoding_id=encodings[wanted].id if wanted in encodings else None,
                destination=name,
                state=DeliveryState.PENDING,
                attempts=0,
                queued_at=now,
                next_attempt_at=now,
            )
            for name, wanted in addressed.destinations.items()
            if not is_kept
        )
