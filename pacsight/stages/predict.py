"""Pixels to predictions: findings into the ledger, heatmaps and masks into files."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.measurements import Measured, measure_box, measure_outline
from inference.errors import InferenceError, NotAVolumeError, QualityError
from inference.source_image import SourceImage
from inference.volume import Volume
from ledger.database import reading, transaction
from ledger.domain import (
    Box,
    Code,
    Finding,
    Heatmap,
    KeySlice,
    ModelIdentity,
    Prediction,
    Segment,
    SegmentKind,
)
from ledger.events import record
from ledger.store import Store
from ledger.tables import Decision, PredictionRow
from pacsight.errors import StageError
from pacsight.monitoring.metrics import INFERENCE
from pacsight.stages.context import (
    StageContext,
    accepted_decision,
    package_of,
    source_image,
    source_volume,
    takes_series,
)
from pacsight.stages.earlier import take_over
from pacsight.stages.refuse import are_wanted
from pacsight.work import Stage, Work, job_queued

ARTIFACTS = "artifacts"


def predict_decision(context: StageContext, work: Work) -> Sequence[Work]:
    """Analyse every image, or the series, that the decision names; return what encodes it.

    What the same model has said about the very same objects is taken over.

    An image that can't be read, or that the model's gate refuses, is journalled with its code and
    the others go on. If the gate refuses all, or the series makes no volume, the decision becomes a
    refusal.

    Raises
    ------
    InferenceError
        No image could be read; the first one's reason.
    """
    with reading(context.database) as session:
        known = session.get(Decision, work.decision_id)
        if known is not None and known.code is not None:
            return _told(context, work, known)  # by a run that ended before it could say so
        decision = accepted_decision(session, work.decision_id)
        done = _answered(session, decision.id)
    done = done or take_over(context, work, decision)
    first_error: InferenceError | None = None
    for uids in _sources(context, decision):
        uid = uids[0]
        if uid in done or (len(uids) > 1 and done):  # one answer about all of them
            continue
        try:
            done |= _predict_source(context, work, decision, uids)
        except InferenceError as error:
            first_error = first_error or error
            _journal_unreadable(context, uid, error)
    if not done and isinstance(first_error, (QualityError, NotAVolumeError)):
        _refuse(context, decision, first_error)
        return _told(context, work, decision)
    if not done and first_error is not None:
        raise first_error
    return _to_encode(context, work, decision)


def _answered(session: Session, decision_id: int) -> set[str]:
    """Return the UIDs that answers are stored about."""
    query = select(PredictionRow.sop_instance_uid).where(PredictionRow.decision_id == decision_id)
    return set(session.scalars(query))


def _told(context: StageContext, work: Work, refused: Decision) -> list[Work]:
    """Return what tells the refusal to the destinations, if any wants to know."""
    return _to_encode(context, work, refused) if are_wanted(context.settings) else []


def _to_encode(context: StageContext, work: Work, decision: Decision) -> list[Work]:
    unit = replace(work, stage=Stage.ENCODE)
    with transaction(context.database) as session:
        job_queued(session, unit, decision.model_id, context.clock())
    return [unit]


def _sources(context: StageContext, decision: Decision) -> list[tuple[str, ...]]:
    """Return what the model is asked about: each image, or all slices at once."""
    if takes_series(context, decision) or _looks_through(context, decision):
        return [tuple(decision.sop_instance_uids)]
    return [(uid,) for uid in decision.sop_instance_uids]


def _looks_through(context: StageContext, decision: Decision) -> bool:
    manifest = package_of(context, decision).manifest
    return manifest.looks_through(len(decision.sop_instance_uids))


def _predict_source(
    context: StageContext, work: Work, decision: Decision, uids: tuple[str, ...]
) -> set[str]:
    """Store what the model says about an image or a series; return the UIDs that it is about."""
    started = time.perf_counter()
    predictions: Sequence[Prediction]
    frame_numbers: tuple[int, ...] = ()
    header: Dataset | None = None
    if _looks_through(context, decision):
        slices = [partial(source_image, context, work.revision_id, uid) for uid in uids]
        predictions = context.models.predict_slices(decision.model_id, slices)
    else:
        source: SourceImage | Volume
        if takes_series(context, decision):
            source = source_volume(context, work.revision_id, uids)
            frame_numbers = source.frame_numbers
        else:
            source = source_image(context, work.revision_id, uids[0])
            header = source.dataset
        predictions = [context.models.predict(decision.model_id, source)]
    seconds = (time.perf_counter() - started) / len(predictions)
    for _ in predictions:
        INFERENCE.labels(decision.model_id).observe(seconds)
    rows = [_row(context, decision, one, seconds, frame_numbers, header) for one in predictions]
    with transaction(context.database) as session:
        # A worker that was taken for dead may come back and finish the same.
        session.get_one(Decision, decision.id, with_for_update=True)
        known = _answered(session, decision.id)
        session.add_all(row for row in rows if row.sop_instance_uid not in known)
    return {prediction.sop_instance_uid for prediction in predictions}


def _row(
    context: StageContext,
    decision: Decision,
    prediction: Prediction,
    seconds: float,
    frame_numbers: Sequence[int],
    header: Dataset | None,
) -> PredictionRow:
    """Write the arrays of a prediction and return the row that names them."""
    uid = prediction.sop_instance_uid
    # The UID comes from outside: its digest makes a safe file name.
    name = hashlib.sha256(uid.encode()).hexdigest()[:24]
    artifact = f"{ARTIFACTS}/{decision.id}/{name}.npz"
    context.store.put(artifact, _pack(prediction))
    return PredictionRow(
        decision_id=decision.id,
        sop_instance_uid=uid,
        summary={
            **_summary(prediction),
            **_sizes(prediction, header),
            "frame_numbers": list(frame_numbers),
        },
        artifact=artifact,
        seconds=seconds,
        created_at=context.clock(),
    )


def _refuse(context: StageContext, decision: Decision, error: InferenceError) -> None:
    """Turn an accepted decision into a refusal."""
    with transaction(context.database) as session:
        row = session.get_one(Decision, decision.id)
        row.is_accepted, row.code, row.message = False, error.code, str(error)


def _journal_unreadable(context: StageContext, uid: str, error: InferenceError) -> None:
    with transaction(context.database) as session:
        record(
            session,
            actor="worker",
            action="image.refused",
            subject=uid,
            detail={"code": error.code},
            now=context.clock(),
        )


def _pack(prediction: Prediction) -> bytes:
    packed = io.BytesIO()
    arrays: dict[str, NDArray[Any]] = {
        f"mask{number}": segment.mask for number, segment in enumerate(prediction.segments)
    }
    if prediction.heatmap is not None:
        arrays["heatmap"] = prediction.heatmap.array
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    return packed.getvalue()


def _summary(prediction: Prediction) -> dict[str, Any]:
    heatmap = prediction.heatmap
    return {
        "model": asdict(prediction.model),
        "findings": [asdict(finding) for finding in prediction.findings],
        "heatmap": heatmap and {"label": heatmap.label, "layer": heatmap.layer},
        "boxes": [asdict(box) for box in prediction.boxes],
        "segments": [
            {
                "label": segment.label,
                "concept": asdict(segment.concept),
                "volume_ml": segment.volume_ml,
                "slice_areas_mm2": segment.slice_areas_mm2,
                "voxels": int(segment.mask.sum()),
                "kind": asdict(segment.kind),
            }
            for segment in prediction.segments
        ],
        "key_slice": prediction.key_slice and asdict(prediction.key_slice),
        "sop_instance_uids": list(prediction.sop_instance_uids),
    }


def _sizes(prediction: Prediction, header: Dataset | None) -> dict[str, Any]:
    """Return names and values of what was measured of boxes and regions on an image, for people."""
    if header is None:
        return {}
    return {
        "box_sizes": [_named(measure_box(box, header)) for box in prediction.boxes],
        "segment_sizes": [_named(measure_outline(one, header)) for one in prediction.segments],
    }


def _named(measured: Sequence[Measured]) -> list[list[str]]:
    return [[one.name.meaning, one.text] for one in measured]


def load_prediction(row: PredictionRow, store: Store) -> Prediction:
    """Read back what :func:`predict_decision` stored.

    Raises
    ------
    StageError
        The file of the arrays is damaged.
    ledger.errors.StoreError
        It is gone, or the store can't be reached.
    """
    summary = row.summary
    heatmap, segments = None, []
    try:
        with np.load(io.BytesIO(store.get(row.artifact)), allow_pickle=False) as arrays:
            if summary["heatmap"] is not None:
                heatmap = Heatmap(array=arrays["heatmap"], **summary["heatmap"])
            for number, item in enumerate(summary["segments"]):
                mask, concept = arrays[f"mask{number}"], Code(**item["concept"])
                kind = SegmentKind.from_json(item["kind"])
                segments.append(
                    Segment(
                        item["label"],
                        concept,
                        mask,
                        item["volume_ml"],
                        kind,
                        tuple(item.get("slice_areas_mm2", ())),
                    )
                )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StageError("The stored prediction can't be read; replay the study.") from error
    return Prediction(
        model=ModelIdentity(**summary["model"]),
        sop_instance_uids=tuple(summary["sop_instance_uids"]),
        findings=tuple(
            Finding(**{**finding, "concept": Code(**finding["concept"])})
            for finding in summary["findings"]
        ),
        heatmap=heatmap,
        seconds=row.seconds,
        boxes=tuple(Box(**{**box, "concept": Code(**box["concept"])}) for box in summary["boxes"]),
        segments=tuple(segments),
        key_slice=_key_slice(summary.get("key_slice")),
    )


def _key_slice(item: dict[str, Any] | None) -> KeySlice | None:
    if item is None:
        return None
    lists = {name: tuple(item[name]) for name in ("labels", "positive_slices")}
    return KeySlice(**{**item, **lists})
