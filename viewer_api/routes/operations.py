"""The engine room: queue, workers, events, deliveries, destinations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from dicom_out.delivery import echo
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
from viewer_api.access import Operator
from viewer_api.context import Web
from viewer_api.errors import PageNotFoundError
from viewer_api.pages import render

router = APIRouter(prefix="/operations")
PAGE = 100


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
    before: int | None = None,
) -> Response:
    """Search the event log."""
    search = EventSearch(actor.strip(), action.strip(), subject.strip(), before)
    with reading(context.database) as session:
        found = find_events(session, search, PAGE + 1)
    return render(
        request,
        "events",
        search=search,
        events=found[:PAGE],
        before=found[PAGE - 1].id if len(found) > PAGE else None,
    )


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
    return render(request, "destinations", destinations=context.destinations, receipt=None)


@router.post("/destinations/{name}/echo")
def ask(request: Request, context: Web, user: Operator, name: str) -> Response:
    """Ask a destination whether it answers (C-ECHO)."""
    found = next((one for one in context.destinations if one.name == name), None)
    if found is None:
        raise PageNotFoundError("There is no such destination.")
    receipt = echo(found, calling_ae_title=context.ae_title)
    with transaction(context.database) as session:
        record(
            session,
            actor=user.login,
            action="destination.echo",
            subject=f"destination:{name}",
            detail={"code": receipt.code},
            now=context.clock(),
        )
    return render(
        request, "destinations", destinations=context.destinations, receipt=receipt, asked=name
    )
