"""The JSON API below ``/api/v1``; ``/api/v1/openapi.json`` describes it, and DICOMweb."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from ledger.choices import switched_off
from ledger.database import reading
from ledger.queries import study_report
from ledger.search import search_worklist
from viewer_api.access import Deliverer, Reader, Reviewer, Uploader
from viewer_api.api_models import (
    DeliverIn,
    Finished,
    FinishIn,
    Model,
    Myself,
    Problem,
    Report,
    ReviewIn,
    StudyPage,
    StudyRow,
    TakenFile,
    UploadId,
)
from viewer_api.context import Web
from viewer_api.journal import note_visit
from viewer_api.routes import dicomweb_retrieve, dicomweb_search, dicomweb_store
from viewer_api.routes import studies as study_room
from viewer_api.routes import upload as upload_room
from viewer_api.routes.worklist import Wanted
from viewer_api.study_view import study_or_404

PREFIX = "/api/v1"
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request can't be read"},
    401: {"model": Problem, "description": "No session, and no valid API token"},
    403: {"model": Problem, "description": "The role, or the token's scope, doesn't allow it"},
    404: {"model": Problem, "description": "There is no such thing"},
    405: {"model": Problem, "description": "There is no such method"},
    409: {"model": Problem, "description": "It is in a state that doesn't allow it"},
    413: {"model": Problem, "description": "More bytes than allowed"},
    422: {"model": Problem, "description": "A value is missing or not usable"},
    503: {"model": Problem, "description": "The ledger or the disk is not available now"},
}
MOST = 200

router = APIRouter(prefix=PREFIX, responses=REFUSALS)
Uid = Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$", examples=["1.2.840.1"])]
UploadKey = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0" * 32])]


@router.get("/openapi.json", include_in_schema=False)
def description(context: Web) -> dict[str, Any]:
    """Describe this API and DICOMweb (OpenAPI 3.1)."""
    found = get_openapi(
        title="Pacsight",
        version="1",
        description=(
            "Studies, answers and uploads as JSON; images and DICOM results by DICOMweb (PS3.18)."
            " Programs send an API token: `Authorization: Bearer …`. Research use."
        ),
        routes=[*router.routes, *_dicomweb()],
    )
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    return found


def _dicomweb() -> list[BaseRoute]:
    rooms = dicomweb_search, dicomweb_retrieve, dicomweb_store
    return [route for room in rooms for route in room.router.routes]


@router.get("/me")
def me(user: Reader) -> Myself:
    """Tell who is asking."""
    permissions = sorted(str(one) for one in user.permissions)
    return Myself(login=user.login, role=user.role, permissions=permissions)


@router.get("/studies")
def studies(
    context: Web,
    user: Reader,
    wanted: Annotated[Wanted, Query()],
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> StudyPage:
    """Search the worklist, as its page does; the last received first."""
    with reading(context.database) as session:
        found = search_worklist(session, wanted.search(), after=wanted.key(), limit=limit + 1)
    rows = [
        StudyRow(
            study_instance_uid=study.study_instance_uid,
            patient_name=study.patient_name,
            patient_id=study.patient_id,
            study_date=study.study_date,
            study_description=study.study_description,
            received_at=row.received_at,
            state=row.state,
            instances=row.instances,
            modalities=row.modalities,
            models=row.models,
            findings=row.findings,
        )
        for row, study in found[:limit]
    ]
    if len(found) <= limit:
        return StudyPage(studies=rows, next=None)
    last = found[limit - 1][0]
    return StudyPage(studies=rows, next=f"{last.received_at!r}_{last.study_id}")


@router.get("/studies/{uid}")
def study(context: Web, user: Reader, uid: Uid) -> Report:
    """Return everything that happened to a study."""
    with reading(context.database) as session:
        report = study_report(session, study_or_404(session, uid))
    note_visit(context, user, uid)
    return Report(**report)


@router.post("/studies/{uid}/reviews", status_code=204)
def review(context: Web, user: Reviewer, uid: Uid, said: ReviewIn) -> Response:
    """Accept, reject or comment a model's answer."""
    study_room.review(context, user, uid, said.decision, said.verdict, said.comment)
    return Response(status_code=204)


@router.post("/studies/{uid}/deliveries", status_code=204)
def deliver(context: Web, user: Deliverer, uid: Uid, wanted: DeliverIn) -> Response:
    """Put the newest results into the outbox of a destination."""
    study_room.deliver(context, user, uid, wanted.destination)
    return Response(status_code=204)


@router.get("/models")
def models(context: Web, user: Reader) -> list[Model]:
    """List the installed models."""
    with reading(context.database) as session:
        off = switched_off(session)
    return [
        Model(
            id=one.manifest.id,
            name=one.manifest.name,
            version=one.identity.version,
            intended_use=one.manifest.intended_use,
            is_on=one.manifest.id not in off,
        )
        for one in context.registry.models
    ]


@router.post("/uploads", status_code=201)
def open_upload(context: Web, user: Uploader) -> UploadId:
    """Open an upload; then send its files, then finish it."""
    return UploadId(**upload_room.open_one(context, user))


@router.put(
    "/uploads/{upload_id}/files",
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            "required": True,
        }
    },
)
async def put_file(
    request: Request,
    context: Web,
    user: Uploader,
    upload_id: UploadKey,
    name: Annotated[str, Query(max_length=1024, examples=["chest.png"])],
) -> list[TakenFile]:
    """Send one file as the body; of an archive all its files are told."""
    taken = await upload_room.put_file(request, context, user, upload_id, name)
    return [TakenFile(**one) for one in taken]


@router.post("/uploads/{upload_id}/finish")
def finish(
    request: Request, context: Web, user: Uploader, upload_id: UploadKey, wishes: FinishIn
) -> Finished:
    """Analyse what was taken."""
    done = upload_room.finish_one(request, context, user, upload_id, **wishes.model_dump())
    return Finished(studies=done["studies"])
