"""Handing in files: one upload, its files one by one, then what is to be done with them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy import select

from ledger.database import reading
from ledger.domain import PatientFacts
from ledger.queries import find_study, study_state
from ledger.web_tables import Upload, UploadFile
from viewer_api.access import Uploader
from viewer_api.context import Web, WebContext
from viewer_api.errors import (
    InputError,
    NotAllowedError,
    PageNotFoundError,
    TooManyFilesError,
    UploadTooLargeError,
)
from viewer_api.expected import put_aside
from viewer_api.pages import render
from viewer_api.roles import Permission, Principal
from viewer_api.upload_intake import begin, room_left, take_file
from viewer_api.upload_store import Wishes, finish

router = APIRouter()
SPACE_CHECK_BYTES = 1 << 26
WRITE_BYTES = 1 << 20
TOO_LARGE = "The file is larger than allowed here; split or reduce it."
ANONYMOUS = "Anonymous"


@router.get("/upload")
def page(request: Request, context: Web, user: Uploader) -> Response:
    """Show where to drop files."""
    models = [package.manifest for package in context.registry.models]
    return render(
        request, "upload", models=models, config=context.config, destinations=context.destinations
    )


@router.post("/uploads")
def open_one(context: Web, user: Uploader) -> dict[str, str]:
    """Open an upload."""
    return {"id": begin(context, user)}


@router.put("/uploads/{upload_id}/files")
async def put_file(
    request: Request,
    context: Web,
    user: Uploader,
    upload_id: str,
    name: Annotated[str, Query(max_length=1024)],
) -> list[dict[str, Any]]:
    """Take one file as the request's body, and say what it is."""
    left, files = await run_in_threadpool(room_left, context, user, upload_id)
    if files < 1:
        raise TooManyFilesError(f"An upload has at most {context.config.max_files} files.")
    target = context.uploads_dir / upload_id / f"{secrets.token_hex(8)}.part"
    try:
        await _receive(request, context, target, min(left, context.config.max_file_bytes))
        rows = await run_in_threadpool(take_file, context, user, upload_id, name, target)
    finally:
        target.unlink(missing_ok=True)
    return [
        {"name": row.name, "kind": row.kind, "code": row.code, "message": row.message}
        for row in rows
    ]


async def _receive(request: Request, context: WebContext, target: Path, limit: int) -> None:
    """Write the body to a file. Disks may be slow: only threads wait for them."""
    size, unchecked = 0, SPACE_CHECK_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise UploadTooLargeError(TOO_LARGE)
    pending = bytearray()
    with target.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            unchecked += len(chunk)
            if size > limit:
                raise UploadTooLargeError(TOO_LARGE)
            if unchecked >= SPACE_CHECK_BYTES:
                await run_in_threadpool(context.intake.check_space)
                unchecked = 0
            pending += chunk
            if len(pending) >= WRITE_BYTES:
                await run_in_threadpool(file.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(file.write, bytes(pending))


@router.post("/uploads/{upload_id}/finish")
def finish_one(
    request: Request,
    context: Web,
    user: Uploader,
    upload_id: str,
    model: Annotated[str, Form(max_length=64)] = "",
    patient_name: Annotated[str, Form(max_length=64)] = "",
    patient_id: Annotated[str, Form(max_length=64)] = "",
    patient_birth_date: Annotated[str, Form(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = "",
    patient_sex: Annotated[str, Form(pattern="^[MFO]?$")] = "",
    study_description: Annotated[str, Form(max_length=64)] = "",
    deliver: Annotated[bool, Form()] = False,
) -> dict[str, Any]:
    """Analyse what was taken; tell the studies and where to watch them."""
    if deliver and not user.may(Permission.DELIVER):
        raise NotAllowedError("Your role doesn't allow to send results to the PACS.")
    if model and model not in {one.identity.model_id for one in context.registry.models}:
        raise InputError("There is no such model.")
    patient = PatientFacts(
        patient_name=_name(patient_name) or ANONYMOUS,
        patient_id=_text(patient_id) or f"ANON-{upload_id[:12].upper()}",
        patient_birth_date=patient_birth_date.replace("-", ""),
        patient_sex=patient_sex,
        study_description=_text(study_description) or "Web upload",
    )
    address = request.client.host if request.client else ""
    wishes = Wishes(patient, model or None, deliver)
    studies = finish(context, user, upload_id, wishes, address)
    return {"studies": studies, "page": f"/uploads/{upload_id}"}


def _text(value: str) -> str:
    """Return a line of text as an LO may hold it (PS3.5 table 6.2-1)."""
    return "".join(c for c in value.replace("\\", "/") if c.isprintable()).strip()


def _name(value: str) -> str:
    """Return ``Family, Given`` or ``Given Family`` as a PN (PS3.5 section 6.2.1)."""
    text = _text(value).replace("=", " ")
    if "^" in text or not text:
        return text
    family, comma, given = text.partition(",")
    if not comma:
        given, _, family = text.rpartition(" ")
    return "^".join(part.strip() for part in (family, given) if part.strip())


@router.get("/uploads/{upload_id}")
def status_page(request: Request, context: Web, user: Uploader, upload_id: str) -> Response:
    """Show what became of an upload's files."""
    return render(request, "uploaded", **_status(context, user, upload_id))


@router.get("/uploads/{upload_id}/files")
def status_rows(request: Request, context: Web, user: Uploader, upload_id: str) -> Response:
    """Return the same as rows only, for the page to stay up to date."""
    return render(request, "uploaded_rows", **_status(context, user, upload_id))


def _status(context: WebContext, user: Principal, upload_id: str) -> dict[str, Any]:
    with reading(context.database) as session:
        upload = session.get(Upload, upload_id)
        if upload is None or upload.user_id != user.user_id:
            raise PageNotFoundError("There is no such upload of yours.")
        files = session.scalars(
            select(UploadFile)
            .where(UploadFile.upload_id == upload_id, UploadFile.kind != "zip")
            .order_by(UploadFile.id)
        ).all()
        uids = list(
            dict.fromkeys(row.study_instance_uid for row in files if row.study_instance_uid)
        )
        studies, refused = [], [row for row in files if row.code]
        for uid in uids:
            study = find_study(session, uid)
            names = [row.name for row in files if row.study_instance_uid == uid]
            aside = put_aside(session, upload.association_id) if study is None else None
            if aside is not None:
                refused += [
                    UploadFile(name=one, code=aside.code, message=aside.message) for one in names
                ]
                continue
            state = "receiving" if study is None else study_state(session, study)
            studies.append({"uid": uid, "names": names, "state": state, "is_known": bool(study)})
    taken = [row.name for row in files if row.study_instance_uid is None and row.code is None]
    if taken:  # not handed in yet, or that broke off
        studies.append({"uid": "", "names": taken, "state": "waiting", "is_known": False})
    return {
        "upload": upload,
        "studies": studies,
        "refused": refused,
    }
