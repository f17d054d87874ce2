"""STOW-RS: store below ``/dicom-web``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from viewer_api.access import Uploader
from viewer_api.context import Web, WebContext
from viewer_api.dicomweb.addresses import PREFIX, STUDY, TAG, base_url
from viewer_api.dicomweb.description import REFUSALS, STORE
from viewer_api.dicomweb.media import JSON, XML, Wrapping, wants_xml
from viewer_api.dicomweb.native_model import native_model
from viewer_api.dicomweb.store import Keeper, PartWriter, answer, status_of
from viewer_api.roles import Principal
from viewer_api.upload_files import forget

WRITE_BYTES = 1 << 20
SPACE_CHECK_BYTES = 1 << 26

router = APIRouter(prefix=PREFIX, tags=[TAG], responses=REFUSALS, default_response_class=Response)


@router.post("/studies", **STORE)
async def store(request: Request, context: Web, user: Uploader) -> Response:
    """Store instances."""
    return await _store(request, context, user, None)


@router.post(STUDY, **STORE)
async def store_in_study(request: Request, context: Web, user: Uploader, study: str) -> Response:
    """Store instances of one study; others are refused."""
    return await _store(request, context, user, study)


async def _store(
    request: Request, context: WebContext, user: Principal, study: str | None
) -> Response:
    in_xml = wants_xml(request, Wrapping.NEVER)
    folder = context.uploads_dir / f"stow-{secrets.token_hex(16)}"
    folder.mkdir(parents=True, mode=0o750)
    try:
        paths = await _receive(request, context, folder)
        address = request.client.host if request.client else ""
        done = await run_in_threadpool(Keeper(context, user, address, study).store, paths)
    finally:
        await run_in_threadpool(forget, folder)
    codes = sorted({one.code for one in done if one.code})
    headers = {"warning": f'299 pacsight "{", ".join(codes)}"'} if codes else None
    content = answer(done, base_url(request, context))
    if in_xml:
        return Response(native_model(content), status_of(done), headers, XML)
    return JSONResponse(content, status_of(done), headers, JSON)


async def _receive(request: Request, context: WebContext, folder: Path) -> Sequence[Path]:
    """Write the parts of the body to files. Disks may be slow: only threads wait for them."""
    limits = context.config
    writer = PartWriter(
        request.headers.get("content-type", ""),
        folder,
        max_parts=limits.max_files,
        max_part=limits.max_file_bytes,
        max_total=limits.max_upload_bytes,
    )
    pending, unchecked = bytearray(), SPACE_CHECK_BYTES
    try:
        async for chunk in request.stream():
            pending += chunk
            unchecked += len(chunk)
            if unchecked >= SPACE_CHECK_BYTES:
                await run_in_threadpool(context.intake.check_space)
                unchecked = 0
            if len(pending) >= WRITE_BYTES:
                await run_in_threadpool(writer.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(writer.write, bytes(pending))
        await run_in_threadpool(writer.finish)
    finally:
        writer.close()
    return writer.paths
