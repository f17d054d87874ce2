"""What the rooms of DICOMweb share: their addresses, and what they write down."""

from __future__ import annotations

from fastapi import Request

from viewer_api.context import WebContext
from viewer_api.guests import DICOMWEB
from viewer_api.journal import journal
from viewer_api.roles import Principal

PREFIX = DICOMWEB.rstrip("/")
STUDY = "/studies/{study}"
SERIES = STUDY + "/series/{series}"
INSTANCE = SERIES + "/instances/{instance}"
TAG = "DICOMweb"
RETRIEVED = "study.retrieved"


def base_url(request: Request, context: WebContext) -> str:
    """Return the address that links begin with, as the client reaches us."""
    root = context.config.public_url or str(request.base_url).rstrip("/")
    return f"{root}{PREFIX}"


def accessed(context: WebContext, user: Principal, study: str) -> None:
    """Write down that somebody looks into a study, once for all requests of a viewer."""
    with context.accesses.noting(user.login, RETRIEVED, study, context.clock()) as is_new:
        if is_new:
            journal(context, user, RETRIEVED, study, by="dicom-web")
