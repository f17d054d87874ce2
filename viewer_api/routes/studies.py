"""A study and its results: the page, what can be taken away, what people say about it."""

from __future__ import annotations

import io
import zipfile
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from PIL import Image
from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.profile import KINDS, TRANSFER_SYNTAXES
from ledger.database import reading, transaction
from ledger.deliveries import queue_deliveries
from ledger.events import record
from ledger.queries import find_study, study_report
from ledger.tables import Decision, ResultObjectRow, Revision, Study
from ledger.web_tables import Review
from viewer_api.access import Deliverer, Reader, Reviewer
from viewer_api.context import Web
from viewer_api.errors import ImagesRemovedError, InputError, PageNotFoundError
from viewer_api.expected import association_of, put_aside
from viewer_api.journal import journal, note_visit
from viewer_api.model_view import figures
from viewer_api.pages import render
from viewer_api.study_view import (
    is_expected,
    progress_of,
    study_or_404,
    view_study,
)
from viewer_api.viewer_data import viewer_data

router = APIRouter(prefix="/studies/{uid}")


@router.get("")
def page(request: Request, context: Web, user: Reader, uid: str) -> Response:
    """Show a study; one that was just handed in appears when its header is read."""
    with reading(context.database) as session:
        study = find_study(session, uid)
        if study is None and is_expected(session, uid):
            aside = put_aside(session, association_of(session, uid))
            return render(request, "study_expected", uid=uid, aside=aside)
        view = view_study(session, study_or_404(session, uid), context.registry)
    note_visit(context, user, uid)
    packages = {one.identity.model_id: one for one in context.registry.models}
    measured = {one: figures(packages[one]) for one in packages}
    return render(
        request,
        "study",
        uid=uid,
        figures=measured,
        destinations=context.destinations,
        ohif_url=context.config.ohif_url,
        **view,
    )


@router.get("/state")
def state(context: Web, user: Reader, uid: str) -> dict[str, str]:
    """Say where the study stands, for the page to know when to load again."""
    with reading(context.database) as session:
        study = find_study(session, uid)
        if study is None:
            aside = put_aside(session, association_of(session, uid))
            return {"state": "expected" if aside is None else "aside"}
        return {"state": progress_of(session, study)}


@router.get("/viewer.json")
def viewer(context: Web, user: Reader, uid: str) -> dict[str, Any]:
    """List series, images and layers."""
    with reading(context.database) as session:
        data = viewer_data(session, study_or_404(session, uid))
    note_visit(context, user, uid)
    return data


@router.get("/report.json")
def report(context: Web, user: Reader, uid: str) -> Response:
    """Return everything that happened to the study, as ``pacsight studies show --json`` does."""
    with reading(context.database) as session:
        content = study_report(session, study_or_404(session, uid))
    journal(context, user, "study.exported", uid, what="json")
    return JSONResponse(content, headers=_attachment("report.json"))


@router.get("/results/{result_id}.dcm")
def dicom(context: Web, user: Reader, uid: str, result_id: int) -> Response:
    """Return a result object as DICOM file."""
    with reading(context.database) as session:
        row = _result(session, uid, result_id)
    journal(context, user, "study.exported", uid, what=row.sop_instance_uid)
    return Response(
        context.store.get(row.path),
        media_type="application/dicom",
        headers=_attachment(f"{row.kind}-{row.id}.dcm"),
    )


@router.get("/results/{result_id}.png")
def picture(context: Web, user: Reader, uid: str, result_id: int) -> Response:
    """Return a Secondary Capture as PNG."""
    with reading(context.database) as session:
        row = _result(session, uid, result_id)
    if row.kind != "sc":
        raise PageNotFoundError("This result is no picture.")
    journal(context, user, "study.exported", uid, what=row.sop_instance_uid)
    buffer = io.BytesIO()
    Image.fromarray(dcmread(io.BytesIO(context.store.get(row.path))).pixel_array).save(
        buffer, "PNG"
    )
    headers = _attachment(f"{row.kind}-{row.id}.png")
    return Response(buffer.getvalue(), media_type="image/png", headers=headers)


@router.get("/results/{result_id}.pdf")
def pdf(context: Web, user: Reader, uid: str, result_id: int) -> Response:
    """Return the document in an Encapsulated PDF."""
    with reading(context.database) as session:
        row = _result(session, uid, result_id)
    if row.kind != "pdf":
        raise PageNotFoundError("This result is no document.")
    journal(context, user, "study.exported", uid, what=row.sop_instance_uid)
    dataset = dcmread(io.BytesIO(context.store.get(row.path)))
    data = dataset.EncapsulatedDocument[: dataset.get("EncapsulatedDocumentLength")]
    headers = _attachment(f"{row.kind}-{row.id}.pdf")
    return Response(data, media_type="application/pdf", headers=headers)


@router.get("/results.zip")
def everything(context: Web, user: Reader, uid: str) -> Response:
    """Return all result objects of the newest revision in one archive."""
    with reading(context.database) as session:
        study = study_or_404(session, uid)
        _refuse_removed(study)
        rows = _newest_results(session, study)
    if not rows:
        raise PageNotFoundError("There are no results yet.")
    journal(context, user, "study.exported", uid, what="zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for row in rows:
            archive.writestr(f"{row.kind}-{row.id}.dcm", context.store.get(row.path))
    return Response(
        buffer.getvalue(), media_type="application/zip", headers=_attachment("results.zip")
    )


@router.post("/decisions/{decision_id}/review")
def review(
    context: Web,
    user: Reviewer,
    uid: str,
    decision_id: int,
    verdict: Annotated[Literal["accepted", "rejected", "comment"], Form()],
    comment: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """Store what a radiologist says about a model's answer."""
    if verdict == "comment" and not comment.strip():
        raise InputError("A comment needs some words.")
    now = context.clock()
    with transaction(context.database) as session:
        study = study_or_404(session, uid)
        decision = session.get(Decision, decision_id)
        revision = None if decision is None else session.get_one(Revision, decision.revision_id)
        if decision is None or revision is None or revision.study_id != study.id:
            raise PageNotFoundError("There is no such answer about this study.")
        session.add(
            Review(
                decision_id=decision_id,
                user_id=user.user_id,
                verdict=verdict,
                comment=comment.strip(),
                created_at=now,
            )
        )
        record(
            session,
            actor=user.login,
            action="result.reviewed",
            subject=uid,
            detail={"model": decision.model_id, "revision": revision.number, "verdict": verdict},
            now=now,
        )
    return RedirectResponse(f"/studies/{uid}#answer-{decision_id}", 303)


@router.post("/deliver")
def deliver(
    context: Web, user: Deliverer, uid: str, destination: Annotated[str, Form(max_length=64)]
) -> Response:
    """Put the newest results into the outbox of a destination, as far as its profile wants them.

    An uploaded image itself always goes along.
    """
    found = next((one for one in context.destinations if one.name == destination), None)
    if found is None:
        raise InputError("There is no such destination.")
    profile = context.profile_of(found)
    now = context.clock()
    with transaction(context.database) as session:
        study = study_or_404(session, uid)
        _refuse_removed(study)
        rows = [
            row
            for row in _newest_results(session, study)
            if row.kind not in KINDS or profile.takes(row.kind, row.variant)
        ]
        syntax = TRANSFER_SYNTAXES[profile.transfer_syntax]
        count = queue_deliveries(session, [row.id for row in rows], destination, syntax, now)
        detail = {"destination": destination, "objects": count}
        record(
            session,
            actor=user.login,
            action="results.sent",
            subject=uid,
            detail=detail,
            now=now,
        )
    return RedirectResponse(f"/studies/{uid}", 303)


def _newest_results(session: Session, study: Study) -> list[ResultObjectRow]:
    newest = (
        select(Revision.id)
        .where(Revision.study_id == study.id)
        .order_by(Revision.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(ResultObjectRow)
        .join(Decision, Decision.id == ResultObjectRow.decision_id)
        .where(Decision.revision_id == newest)
        .order_by(ResultObjectRow.id)
    )
    return list(session.scalars(query))


def _result(session: Session, uid: str, result_id: int) -> ResultObjectRow:
    row = session.scalar(
        select(ResultObjectRow)
        .join(Decision, Decision.id == ResultObjectRow.decision_id)
        .join(Revision, Revision.id == Decision.revision_id)
        .join(Study, Study.id == Revision.study_id)
        .where(ResultObjectRow.id == result_id, Study.study_instance_uid == uid)
    )
    if row is None:
        raise PageNotFoundError("There is no such result of this study.")
    _refuse_removed(study_or_404(session, uid))
    return row


def _refuse_removed(study: Study) -> None:
    if study.expired_at is not None:
        raise ImagesRemovedError


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="pacsight-{name}"'}
