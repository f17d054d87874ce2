"""Pixels and layers, as the viewer asks for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.database import reading
from ledger.domain import InstanceFacts, ObjectState
from ledger.tables import (
    Decision,
    Instance,
    PredictionRow,
    ReceivedObject,
    Revision,
    Series,
    Study,
)
from scp.spool import open_object
from viewer_api.access import Reader
from viewer_api.context import Web
from viewer_api.decoding import ANSWER_BYTES, BYTES_PER_SAMPLE
from viewer_api.errors import ImagesRemovedError, PageNotFoundError
from viewer_api.journal import note_visit
from viewer_api.pixels import heatmap_png, mask_png, read_pixels

router = APIRouter()
KEEP = {"cache-control": "private, max-age=600"}
"""An instance and a prediction never change; the browser may keep them for this visit."""


@router.get("/instances/{instance_id}/pixels")
def pixels(
    context: Web, user: Reader, instance_id: int, frame: Annotated[int, Query(ge=1)] = 1
) -> Response:
    """Return an image's values, compressed; the header ``x-image`` says how to read them."""
    with reading(context.database) as session:
        instance = session.get(Instance, instance_id)
        if instance is None:
            raise PageNotFoundError("There is no such image.")
        stored = session.get_one(ReceivedObject, instance.received_object_id)
        uid = session.scalar(
            select(Study.study_instance_uid)
            .join(Series, Series.study_id == Study.id)
            .where(Series.id == instance.series_id)
        )
    note_visit(context, user, uid or "")
    if stored.state == ObjectState.EXPIRED:
        raise ImagesRemovedError
    facts = InstanceFacts.from_json(instance.facts)
    size = facts.rows * facts.columns * max(1, facts.samples_per_pixel) * BYTES_PER_SAMPLE
    if facts.number_of_frames <= 1:
        size += stored.size  # read whole
    with (
        context.decoding.hold(size),
        open_object(
            context.spool_dir, stored.segment, stored.offset, stored.size, context.store
        ) as file,
    ):
        image = read_pixels(file, facts, frame)
    headers = {"x-image": image.header, "content-encoding": "deflate", **KEEP}
    return Response(image.data, media_type="application/octet-stream", headers=headers)


@router.get("/predictions/{prediction_id}/heatmap")
def heatmap(context: Web, user: Reader, prediction_id: int) -> Response:
    """Return a heatmap as a picture to lay over the image."""
    with reading(context.database) as session:
        row, uid = _prediction(session, prediction_id)
    note_visit(context, user, uid)
    with context.decoding.hold(ANSWER_BYTES):
        data = heatmap_png(row, context.store)
    return Response(data, media_type="image/png", headers=KEEP)


@router.get("/predictions/{prediction_id}/masks/{number}")
def mask(
    context: Web,
    user: Reader,
    prediction_id: int,
    number: int,
    index: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Return one region of one image or slice as a picture to lay over it."""
    with reading(context.database) as session:
        row, uid = _prediction(session, prediction_id)
    note_visit(context, user, uid)
    with context.decoding.hold(ANSWER_BYTES):
        data = mask_png(row, context.store, number, index)
    return Response(data, media_type="image/png", headers=KEEP)


def _prediction(session: Session, prediction_id: int) -> tuple[PredictionRow, str]:
    """Return an answer and the study that it is about."""
    found = session.execute(
        select(PredictionRow, Study.study_instance_uid)
        .join(Decision, Decision.id == PredictionRow.decision_id)
        .join(Revision, Revision.id == Decision.revision_id)
        .join(Study, Study.id == Revision.study_id)
        .where(PredictionRow.id == prediction_id)
    ).one_or_none()
    if found is None:
        raise PageNotFoundError("There is no such answer.")
    return found[0], found[1]
