"""The worklist and one's own history: find, page, export."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict

from ledger.database import reading, transaction
from ledger.events import record
from ledger.search import Key, Search, known_values, search_worklist
from viewer_api.access import Reader
from viewer_api.context import Web, WebContext
from viewer_api.pages import render
from viewer_api.roles import Principal
from viewer_api.study_view import date as iso_date
from viewer_api.study_view import person

router = APIRouter()
PAGE = 50
EXPORT_PAGE = 500
STATES = (
    "receiving", "waiting", "working", "delivering", "done", "not analysed", "undelivered",
    "failed", "held",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets compute cells that start so; a patient's name could be one."""


Day = Annotated[date | None, BeforeValidator(lambda value: value or None)]
"""Forms send empty fields as empty text."""


class Wanted(BaseModel):
    """The form above the list, as it stands in the address."""

    model_config = ConfigDict(extra="ignore")

    q: str = ""
    state: str = ""
    modality: str = ""
    model: str = ""
    finding: str = ""
    received_from: Day = None
    received_until: Day = None
    after: str = ""

    def search(self) -> Search:
        """Return what the ledger is asked; days are those of this machine's zone."""
        return Search(
            text=self.q[:200],
            state=self.state[:64],
            modality=self.modality[:64],
            model=self.model[:64],
            finding=self.finding[:64],
            received_from=start_of(self.received_from),
            received_until=start_of(self.received_until, days=1),
        )

    def key(self) -> Key | None:
        """Return the place of the last study of the page before."""
        received, _, study = self.after.partition("_")
        try:
            return float(received), int(study)
        except ValueError:
            return None

    def address(self, path: str, **changes: str) -> str:
        """Return the address of another page of the same search."""
        values = {**self.model_dump(mode="json", exclude={"after"}), **changes}
        return f"{path}?{urlencode({key: value for key, value in values.items() if value})}"


Filter = Annotated[Wanted, Query()]


def start_of(day: date | None, days: int = 0) -> float | None:
    """Return when a day begins in this machine's zone, or one so many days later.

    None, which is no bound, also at the ends of the calendar.
    """
    if day is None:
        return None
    try:
        return datetime.combine(day + timedelta(days=days), datetime.min.time()).timestamp()
    except (ValueError, OverflowError):
        return None


@router.get("/worklist")
def page(request: Request, context: Web, user: Reader, wanted: Filter) -> Response:
    """Show studies, the last received first."""
    _note_search(context, user, "worklist", wanted.search())
    return _page(request, context, "/worklist", wanted, wanted.search())


@router.get("/worklist/rows")
def rows(request: Request, context: Web, user: Reader, wanted: Filter) -> Response:
    """Return the rows alone, for the page to stay up to date."""
    return _rows(request, context, "/worklist", wanted, wanted.search())


@router.get("/history")
def history(request: Request, context: Web, user: Reader, wanted: Filter) -> Response:
    """Show what one has uploaded oneself."""
    _note_search(context, user, "history", wanted.search())
    return _page(request, context, "/history", wanted, _own(wanted, user))


@router.get("/history/rows")
def history_rows(request: Request, context: Web, user: Reader, wanted: Filter) -> Response:
    """Return the rows alone."""
    return _rows(request, context, "/history", wanted, _own(wanted, user))


@router.get("/worklist.csv")
def export(context: Web, user: Reader, wanted: Filter) -> Response:
    """Return all that the search finds as CSV."""
    return _export(context, user, wanted.search(), "worklist")


@router.get("/history.csv")
def history_export(context: Web, user: Reader, wanted: Filter) -> Response:
    """Return one's own uploads as CSV."""
    return _export(context, user, _own(wanted, user), "history")


def _own(wanted: Wanted, user: Principal) -> Search:
    return replace(wanted.search(), user=user.login)


def _page(
    request: Request, context: WebContext, path: str, wanted: Wanted, search: Search
) -> Response:
    with reading(context.database) as session:
        choices = {kind: known_values(session, kind) for kind in ("modality", "model", "finding")}
    names = {one.identity.model_id: one.manifest.name for one in context.registry.models}
    values = _found(context, path, wanted, search)
    return render(
        request,
        "worklist",
        choices={"state": STATES, **choices},
        names=names,
        **values,
    )


def _rows(
    request: Request, context: WebContext, path: str, wanted: Wanted, search: Search
) -> Response:
    return render(request, "worklist_rows", **_found(context, path, wanted, search))


def _found(context: WebContext, path: str, wanted: Wanted, search: Search) -> dict[str, Any]:
    with reading(context.database) as session:
        found = search_worklist(session, search, after=wanted.key(), limit=PAGE + 1)
    shown = found[:PAGE]
    following = ""
    if len(found) > PAGE:
        row, _ = shown[-1]
        following = wanted.address(path, after=f"{row.received_at!r}_{row.study_id}")
    is_filtered = any(asdict(replace(search, user="")).values())
    return {
        "list_path": path,
        "wanted": wanted,
        "is_filtered": is_filtered,
        "is_first": not wanted.after,
        "first": wanted.address(path),
        "following": following,
        "rows_path": wanted.address(f"{path}/rows", after=wanted.after),
        "csv": wanted.address(f"{path}.csv"),
        "studies": [
            {
                "uid": study.study_instance_uid,
                "patient": person(study.patient_name),
                "patient_id": study.patient_id,
                "date": iso_date(study.study_date),
                "description": study.study_description,
                "row": row,
            }
            for row, study in shown
        ],
    }


def _export(context: WebContext, user: Principal, search: Search, name: str) -> Response:
    _journal(context, user, "worklist.exported", name, search)
    headers = {"content-disposition": f'attachment; filename="pacsight-{name}.csv"'}
    return StreamingResponse(_lines(context, search), media_type="text/csv", headers=headers)


def _note_search(context: WebContext, user: Principal, name: str, search: Search) -> None:
    if any(asdict(search).values()):  # the list alone is where everybody starts
        _journal(context, user, "worklist.searched", name, search)


def _journal(context: WebContext, user: Principal, action: str, name: str, search: Search) -> None:
    asked = [key for key, value in asdict(search).items() if value]
    with transaction(context.database) as session:
        record(
            session,
            actor=user.login,
            action=action,
            subject=name,
            detail={"asked_by": asked},  # which fields, not what was typed: it may be a name
            now=context.clock(),
        )


def _lines(context: WebContext, search: Search) -> Iterator[str]:
    columns = (
        "received", "state", "patient_id", "patient_name", "study_date", "modalities",
        "instances", "models", "findings", "study_instance_uid",
    )  # fmt: skip
    yield _line(columns)
    after: Key | None = None
    while True:
        with reading(context.database) as session:
            found = search_worklist(session, search, after=after, limit=EXPORT_PAGE)
        for row, study in found:
            received = datetime.fromtimestamp(row.received_at).astimezone()
            yield _line(
                (
                    received.isoformat(timespec="seconds"),
                    row.state,
                    study.patient_id,
                    person(study.patient_name),
                    iso_date(study.study_date),
                    " ".join(row.modalities),
                    row.instances,
                    " ".join(row.models),
                    "; ".join(row.findings),
                    study.study_instance_uid,
                )
            )
        if len(found) < EXPORT_PAGE:
            return
        after = found[-1][0].received_at, found[-1][0].study_id


def _line(cells: tuple[object, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(
        f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells
    )
    return buffer.getvalue()
