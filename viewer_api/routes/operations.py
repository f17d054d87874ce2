"""The engine room: queue, workers, events, deliveries, destinations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from dicom_out.delivery import echo
from dicom_out.destination import Destination
from ledger.anchors import noted_heads
from ledger.audit import SUBJECT, last_verification, verify_and_record
from ledger.database import reading, transaction
from ledger.deliveries import retry_deliveries
from ledger.events import record
from ledger.operations import (
    EventSearch,
    find_events,
    last_ready_workers,
    open_jobs,
    queue_figures,
)
from ledger.queries import list_deliveries, list_quarantined
from ledger.seal import read_head
from ledger.tables import Event
from viewer_api.access import Operator
from viewer_api.context import Web, WebContext
from viewer_api.errors import PageNotFoundError
from viewer_api.pages import render
from viewer_api.roles import Principal
from viewer_api.routes.worklist import Day, start_of

router = APIRouter(prefix="/operations")
PAGE = 100
OF_STUDIES = (
    "study.", "results.", "result.", "images.", "series.", "instances.received", "answers.",
    "delivery.begun", "peer.queried",
)  # fmt: skip
"""Beginnings of actions whose subject is a study."""


@router.get("")
def overview(request: Request, context: Web, user: Operator) -> Response:
    """Show what is under way and what is stuck."""
    with reading(context.database) as session:
        values: dict[str, Any] = {
            "figures": queue_figures(session),
            "jobs": open_jobs(session),
            "workers": last_ready_workers(session),
            "quarantined": list_quarantined(session, 20),
        }
    return render(request, "operations", **values)


@router.get("/events")
def events(
    request: Request,
    context: Web,
    user: Operator,
    actor: Annotated[str, Query(max_length=64)] = "",
    action: Annotated[str, Query(max_length=48)] = "",
    subject: Annotated[str, Query(max_length=128)] = "",
    since: Annotated[Day, Query()] = None,
    until: Annotated[Day, Query()] = None,
    before: int | None = None,
) -> Response:
    """Search the event log, and show whether it is as it was written."""
    days = {"since": since, "until": until}
    search = EventSearch(
        actor.strip(), action.strip(), subject.strip(), start_of(since), start_of(until, 1), before
    )
    asked = [name for name, value in asdict(search).items() if value]
    with transaction(context.database) as session:
        _record(session, context, user, "events.read", SUBJECT, asked_by=asked)
    with reading(context.database) as session:
        found = find_events(session, search, PAGE + 1)
        values: dict[str, Any] = {
            "verified": last_verification(session),
            "head": read_head(session),
        }
    return render(
        request,
        "events",
        search=search,
        days=days,
        events=found[:PAGE],
        older=_older(search, days, found),
        of_studies=OF_STUDIES,
        **values,
    )


def _older(search: EventSearch, days: dict[str, Day], found: list[Event]) -> str:
    """Return the address of the events before those that are shown; empty if there are none."""
    if len(found) <= PAGE:
        return ""
    asked = {"actor": search.actor, "action": search.action, "subject": search.subject, **days}
    values = {key: value for key, value in asked.items() if value}
    return f"?{urlencode({**values, 'before': found[PAGE - 1].id})}"


@router.post("/events/verify")
def verify(context: Web, user: Operator) -> Response:
    """Compute the chain of the event log again."""
    anchors = noted_heads(context.data_dir)
    verify_and_record(context.database, anchors, actor=user.login, now=context.clock())
    return RedirectResponse("/operations/events", 303)


@router.get("/deliveries")
def deliveries(
    request: Request,
    context: Web,
    user: Operator,
    state: Annotated[str, Query(max_length=16)] = "",
) -> Response:
    """Show the outbox."""
    with reading(context.database) as session:
        rows = list_deliveries(session, state=state or None, limit=200)
    return render(request, "deliveries", rows=rows, state=state)


@router.post("/deliveries/retry")
def retry(
    context: Web, user: Operator, delivery_id: Annotated[int | None, Form()] = None
) -> Response:
    """Try one delivery again now, or everything that is not delivered."""
    with transaction(context.database) as session:
        retry_deliveries(session, delivery_id=delivery_id, actor=user.login, now=context.clock())
    return RedirectResponse("/operations/deliveries", 303)


@router.get("/destinations")
def destinations(request: Request, context: Web, user: Operator) -> Response:
    """Show who gets the results."""
    return _destinations(request, context)


@router.post("/destinations/{name}/echo")
def ask(request: Request, context: Web, user: Operator, name: str) -> Response:
    """Ask a destination whether it answers (C-ECHO)."""
    found = _destination(context, name)
    receipt = echo(found, calling_ae_title=context.ae_title)
    with transaction(context.database) as session:
        subject = f"destination:{name}"
        _record(session, context, user, "destination.echo", subject, code=receipt.code)
    return _destinations(request, context, receipt=receipt, asked=name)


@router.post("/destinations/{name}/selftest")
def selftest(request: Request, context: Web, user: Operator, name: str) -> Response:
    """Send a drawn study with its results there, and say what its readers should see."""
    shown = context.self_test(_destination(context, name))
    refused = [row.answer for row in shown if not row.is_delivered]
    with transaction(context.database) as session:
        subject = f"destination:{name}"
        kinds = {row.kind: row.is_delivered for row in shown}
        _record(session, context, user, "destination.selftest", subject, delivered=kinds)
    return _destinations(request, context, shown=shown, asked=name, is_refused=bool(refused))


def _destinations(request: Request, context: WebContext, **answer: Any) -> Response:
    values = {"receipt": None, "shown": None, **answer}
    destinations = [(one, context.profile_of(one)) for one in context.destinations]
    return render(request, "destinations", destinations=destinations, **values)


def _destination(context: WebContext, name: str) -> Destination:
    found = next((one for one in context.destinations if one.name == name), None)
    if found is None:
        raise PageNotFoundError("There is no such destination.")
    return found


def _record(
    session: Session, context: WebContext, user: Principal, action: str, subject: str, **detail: Any
) -> None:
    record(
        session,
        actor=user.login,
        action=action,
        subject=subject,
        detail=detail,
        now=context.clock(),
    )
