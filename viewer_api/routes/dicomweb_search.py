"""QIDO-RS: search below ``/dicom-web``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ledger.database import reading
from viewer_api.access import Reader
from viewer_api.context import Web, WebContext
from viewer_api.dicomweb.addresses import PREFIX, SERIES, STUDY, TAG, accessed, base_url
from viewer_api.dicomweb.description import REFUSALS, search
from viewer_api.dicomweb.matching import Level, Question, parse
from viewer_api.dicomweb.media import JSON, XML, wants_xml
from viewer_api.dicomweb.multipart import Part, related
from viewer_api.dicomweb.native_model import native_model
from viewer_api.dicomweb.search import Answer, Searcher
from viewer_api.journal import journal
from viewer_api.roles import Principal

NO_CONTENT = 204
SEARCHED = "worklist.searched"

router = APIRouter(prefix=PREFIX, tags=[TAG], responses=REFUSALS, default_response_class=Response)


def _question(level: Level, request: Request) -> Question:
    wants_xml(request)  # or not: that neither is taken is said before anything is looked for
    return parse(level, request.query_params.multi_items())


def _searched(context: WebContext, user: Principal, question: Question, study: str | None) -> None:
    if study is not None:
        accessed(context, user, study)
        return
    with context.accesses.noting(user.login, SEARCHED, "", context.clock()) as is_new:
        if is_new:  # which fields were asked by, not what for: it may be a name
            asked = sorted({**question.study, **question.series, **question.instance})
            journal(context, user, SEARCHED, "dicom-web", asked_by=asked)


def _answer(request: Request, found: Answer) -> Response:
    headers = {"warning": ", ".join(f'299 pacsight "{one}"' for one in found.warnings)}
    used = headers if found.warnings else None
    if not found.rows:
        return Response(status_code=NO_CONTENT, headers=used)
    if not wants_xml(request):
        return JSONResponse(found.rows, headers=used, media_type=JSON)
    answer = related((Part(XML, "", [native_model(row)]) for row in found.rows), XML)
    answer.headers.update(used or {})
    return answer


@router.get("/studies", **search("studies"))
def search_studies(request: Request, context: Web, user: Reader) -> Response:
    """Search for studies."""
    question = _question("studies", request)
    _searched(context, user, question, None)
    with reading(context.database) as session:
        searcher = Searcher(session, context.store, base_url(request, context))
        return _answer(request, searcher.studies(question))


@router.get("/series", **search("series"))
def search_all_series(request: Request, context: Web, user: Reader) -> Response:
    """Search for series of all studies."""
    return _search_series(request, context, user, None)


@router.get(STUDY + "/series", **search("series"))
def search_series(request: Request, context: Web, user: Reader, study: str) -> Response:
    """Search for series of a study."""
    return _search_series(request, context, user, study)


def _search_series(
    request: Request, context: WebContext, user: Principal, study: str | None
) -> Response:
    question = _question("series", request)
    _searched(context, user, question, study)
    with reading(context.database) as session:
        searcher = Searcher(session, context.store, base_url(request, context))
        return _answer(request, searcher.series(question, study))


@router.get("/instances", **search("instances"))
def search_all_instances(request: Request, context: Web, user: Reader) -> Response:
    """Search for instances of all studies."""
    return _search_instances(request, context, user, None, None)


@router.get(STUDY + "/instances", **search("instances"))
def search_instances_of_study(request: Request, context: Web, user: Reader, study: str) -> Response:
    """Search for instances of a study."""
    return _search_instances(request, context, user, study, None)


@router.get(SERIES + "/instances", **search("instances"))
def search_instances(
    request: Request, context: Web, user: Reader, study: str, series: str
) -> Response:
    """Search for instances of a series."""
    return _search_instances(request, context, user, study, series)


def _search_instances(
    request: Request, context: WebContext, user: Principal, study: str | None, series: str | None
) -> Response:
    question = _question("instances", request)
    _searched(context, user, question, study)
    with reading(context.database) as session:
        searcher = Searcher(session, context.store, base_url(request, context))
        return _answer(request, searcher.instances(question, study, series))
