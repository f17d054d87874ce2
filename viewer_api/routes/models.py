"""The installed models: what each is for, how good it is, and the switch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from inference.errors import ModelNotFoundError
from inference.registry import ModelPackage
from ledger.choices import switched_off
from ledger.database import reading, transaction
from ledger.events import record
from ledger.web_tables import ModelSwitch
from viewer_api.access import Operator, Reader
from viewer_api.context import Web, WebContext
from viewer_api.errors import PageNotFoundError
from viewer_api.model_view import card_html, figures
from viewer_api.pages import render

router = APIRouter(prefix="/models")


@router.get("")
def page(request: Request, context: Web, user: Reader) -> Response:
    """List the models."""
    with reading(context.database) as session:
        off = switched_off(session)
    models = [
        {"manifest": one.manifest, "figures": figures(one), "is_on": one.manifest.id not in off}
        for one in context.registry.models
    ]
    return render(request, "models", models=models, broken=context.registry.broken)


@router.get("/{model_id}")
def card(request: Request, context: Web, user: Reader, model_id: str) -> Response:
    """Show a model card."""
    package = _package(context, model_id)
    return render(
        request,
        "model",
        manifest=package.manifest,
        identity=package.identity,
        card=card_html(package.folder),
    )


@router.post("/{model_id}/switch")
def switch(
    context: Web, user: Operator, model_id: str, on: Annotated[bool, Form()] = False
) -> Response:
    """Switch a model on or off; studies routed from now on follow."""
    package = _package(context, model_id)
    now = context.clock()
    with transaction(context.database) as session:
        session.merge(ModelSwitch(model_id=package.manifest.id, is_on=on, changed_at=now))
        action = "model.switched_on" if on else "model.switched_off"
        record(
            session,
            actor=user.login,
            action=action,
            subject=f"model:{package.manifest.id}",
            detail={},
            now=now,
        )
    return RedirectResponse("/models", 303)


def _package(context: WebContext, model_id: str) -> ModelPackage:
    try:
        return context.registry.get(model_id)
    except ModelNotFoundError as error:
        raise PageNotFoundError("There is no such model here.") from error
