"""WADO-RS: instances, metadata, frames, pictures and bulk data below ``/dicom-web``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from ledger.database import reading
from viewer_api.access import Reader
from viewer_api.context import Web
from viewer_api.dicomweb import description
from viewer_api.dicomweb.addresses import (
    INSTANCE,
    PREFIX,
    SERIES,
    STUDY,
    TAG,
    accessed,
    base_url,
)
from viewer_api.dicomweb.frames import parse_frames
from viewer_api.dicomweb.held import Held, held_instance, held_of_study
from viewer_api.dicomweb.rendering import JPEG, QUALITY, THUMBNAIL, View, parse_view
from viewer_api.dicomweb.retrieve import Retriever

router = APIRouter(
    prefix=PREFIX, tags=[TAG], responses=description.REFUSALS, default_response_class=Response
)


class Retrieval:
    """What the addresses of retrieval have in common: what is meant, and that it is journalled.

    Raises
    ------
    PageNotFoundError
        It isn't held.
    """

    def __init__(
        self,
        request: Request,
        context: Web,
        user: Reader,
        study: str,
        series: str | None = None,
        instance: str | None = None,
    ) -> None:
        with reading(context.database) as session:
            if instance is not None and series is not None:
                one = held_instance(session, context.store, study, series, instance)
                self.held: Sequence[Held] = [one]
            else:
                self.held = held_of_study(session, context.store, study, series)
        accessed(context, user, study)
        self.is_one = instance is not None
        self.answers = Retriever(request, context, base_url(request, context))


Wanted = Annotated[Retrieval, Depends()]


@router.get(STUDY, **description.INSTANCES)
@router.get(SERIES, **description.INSTANCES)
@router.get(INSTANCE, **description.INSTANCES)
def retrieve(wanted: Wanted) -> Response:
    """Return instances as Part 10 files."""
    return wanted.answers.instances(wanted.held, is_one=wanted.is_one)


@router.get(STUDY + "/metadata", **description.METADATA)
@router.get(SERIES + "/metadata", **description.METADATA)
@router.get(INSTANCE + "/metadata", **description.METADATA)
def metadata(wanted: Wanted) -> Response:
    """Return headers in the DICOM JSON Model."""
    return wanted.answers.metadata(wanted.held)


Window = Annotated[str, Query(max_length=128)]
Viewport = Annotated[str, Query(max_length=128)]
Quality = Annotated[int, Query(ge=1, le=100)]


@router.get(STUDY + "/rendered", **description.RENDERED)
@router.get(SERIES + "/rendered", **description.RENDERED)
@router.get(INSTANCE + "/rendered", **description.RENDERED)
def rendered(
    wanted: Wanted, window: Window = "", viewport: Viewport = "", quality: Quality = QUALITY
) -> Response:
    """Return pictures; of an Encapsulated PDF the document."""
    view = partial(parse_view, window=window, viewport=viewport, quality=quality)
    return wanted.answers.rendered(wanted.held, None, view, is_one=wanted.is_one)


@router.get(INSTANCE + "/frames/{frames}", **description.FRAMES)
def frames(wanted: Wanted, frames: str) -> Response:
    """Return frames, as stored or uncompressed."""
    return wanted.answers.frames(wanted.held[0], parse_frames(frames))


@router.get(INSTANCE + "/frames/{frames}/rendered", **description.RENDERED)
def rendered_frames(
    wanted: Wanted,
    frames: str,
    window: Window = "",
    viewport: Viewport = "",
    quality: Quality = QUALITY,
) -> Response:
    """Return pictures of frames."""
    view = partial(parse_view, window=window, viewport=viewport, quality=quality)
    return wanted.answers.rendered(wanted.held, parse_frames(frames), view, is_one=True)


@router.get(STUDY + "/thumbnail", **description.THUMBNAIL)
@router.get(SERIES + "/thumbnail", **description.THUMBNAIL)
@router.get(INSTANCE + "/thumbnail", **description.THUMBNAIL)
def thumbnail(wanted: Wanted, viewport: Viewport = "") -> Response:
    """Return a small picture."""
    return wanted.answers.thumbnail(wanted.held, None, _small(viewport))


@router.get(INSTANCE + "/frames/{frames}/thumbnail", **description.THUMBNAIL)
def frame_thumbnail(wanted: Wanted, frames: str, viewport: Viewport = "") -> Response:
    """Return a small picture of a frame."""
    return wanted.answers.thumbnail(wanted.held, parse_frames(frames)[0], _small(viewport))


def _small(viewport: str) -> View:
    return parse_view(JPEG, "", viewport or f"{THUMBNAIL},{THUMBNAIL}", QUALITY)


@router.get(INSTANCE + "/bulkdata/{path:path}", **description.BULK_DATA)
def bulk_data(wanted: Wanted, path: str) -> Response:
    """Return a long value, to which metadata has a link."""
    return wanted.answers.bulk(wanted.held[0], path)
