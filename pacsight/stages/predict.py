"""Pixels to predictions: findings into the ledger, heatmaps into artifact files."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from inference.errors import InferenceError
from ledger.database import reading, transaction
from ledger.domain import Code, Finding, Heatmap, ModelIdentity, Prediction
from ledger.events import record
from ledger.tables import Decision, PredictionRow
from pacsight.errors import StageError
from pacsight.stages.context import StageContext, accepted_decision, source_image, write_durably
from pacsight.work import Stage, Work, job_queued

ARTIFACTS = "artifacts"


def predict_decision(context: StageContext, work: Work) -> Sequence[Work]:
    """Analyse every image that the decision names; return the encoding of what came out.

    An image that can't be read is journalled with its code and the others go on.

    Raises
    ------
    InferenceError
        No image could be analysed; the first one's reason.
    """
    with reading(context.database) as session:
        decision = accepted_decision(session, work.decision_id)
        done = set(
            session.scalars(
                select(PredictionRow.sop_instance_uid).where(
                    PredictionRow.decision_id == decision.id
                )
            )
        )
    first_error: InferenceError | None = None
    for uid in decision.sop_instance_uids:
        if uid in done:
            continue
        try:
            _predict_image(context, work, decision, uid)
            done.add(uid)
        except InferenceError as error:
            first_error = first_error or error
            _journal_unreadable(context, uid, error)
    if not done and first_error is not None:
        raise first_error
    unit = Work(Stage.ENCODE, work.revision_id, decision_id=work.decision_id)
    with transaction(context.database) as session:
        job_queued(session, unit, decision.model_id, context.clock())
    return [unit]


def _predict_image(context: StageContext, work: Work, decision: Decision, uid: str) -> None:
    started = time.perf_counter()
    image = source_image(context, work.revision_id, uid)
    prediction = context.models.predict(decision.model_id, image)
    # The UID comes from outside: its digest makes a safe file name.
    name = hashlib.sha256(uid.encode()).hexdigest()[:24]
    artifact = Path(ARTIFACTS) / str(decision.id) / f"{name}.npz"
    write_durably(context.settings.data_dir / artifact, _pack(prediction))
    with transaction(context.database) as session:
        session.add(
            PredictionRow(
                decision_id=decision.id,
                sop_instance_uid=uid,
                summary=_summary(prediction),
                artifact=str(artifact),
                seconds=time.perf_counter() - started,
                created_at=context.clock(),
            )
        )


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
    arrays = {} if prediction.heatmap is None else {"heatmap": prediction.heatmap.array}
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    return packed.getvalue()


def _summary(prediction: Prediction) -> dict[str, Any]:
    heatmap = prediction.heatmap
    return {
        "model": asdict(prediction.model),
        "findings": [asdict(finding) for finding in prediction.findings],
        "heatmap": heatmap and {"label": heatmap.label, "layer": heatmap.layer},
    }


def load_prediction(row: PredictionRow, data_dir: Path) -> Prediction:
    """Read back what :func:`predict_decision` stored.

    Raises
    ------
    StageError
        The heatmap's file is gone or damaged.
    """
    findings = tuple(
        Finding(**{**finding, "concept": Code(**finding["concept"])})
        for finding in row.summary["findings"]
    )
    heatmap = None
    if row.summary["heatmap"] is not None:
        try:
            with np.load(data_dir / row.artifact, allow_pickle=False) as arrays:
                heatmap = Heatmap(array=arrays["heatmap"], **row.summary["heatmap"])
        except (OSError, ValueError, KeyError) as error:
            raise StageError("The stored heatmap can't be read; replay the study.") from error
    return Prediction(
        model=ModelIdentity(**row.summary["model"]),
        sop_instance_uids=(row.sop_instance_uid,),
        findings=findings,
        heatmap=heatmap,
        seconds=row.seconds,
    )
