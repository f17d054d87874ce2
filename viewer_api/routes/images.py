"""Pixels and layers, as the viewer asks for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from sqlalchemy.orm import Session

from ledger.database import reading
from ledger.domain import InstanceFacts, ObjectState
from ledger.tables import Instance, PredictionRow, ReceivedObject
from scp.spool import open_object
from viewer_api.access import Reader
from viewer_api.context import Web
from viewer_api.errors import ImagesRemovedError, PageNotFoundError
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
    if stored.state == ObjectState.EXPIRED:
        raise ImagesRemovedError
    facts = InstanceFacts.from_json(instance.facts)
    with open_object(
        context.spool_dir, stored.segment, stored.offset, stored.size, context.store
    ) as file:
        image = read_pixels(file, facts, frame)
    headers = {"x-image": image.header, "content-encoding": "deflate", **KEEP}
    return Response(image.data, media_type="application/octet-stream", headers=headers)


@router.get("/predictions/{prediction_id}/heatmap")
def heatmap(context: Web, user: Reader, prediction_id: int) -> Response:
    """Return a heatmap as a picture to lay over the image."""
    with reading(context.database) as session:
        row = _prediction(session, prediction_id)
    return Response(heatmap_png(row, context.store), media_type="image/png", headers=KEEP)


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
        row = _prediction(session, prediction_id)
    data = mask_png(row, context.store, number, index)
    return Response(data, media_type="image/png", headers=KEEP)


def _prediction(session: Session, prediction_id: int) -> PredictionRow:
    row = session.get(PredictionRow, prediction_id)
    if row is None:
        raise PageNotFoundError("There is no such answer.")
    return row
