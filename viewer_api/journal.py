"""What people do with a study, as the event log has it."""

from __future__ import annotations

from typing import Any

from ledger.database import transaction
from ledger.events import record
from viewer_api.context import WebContext
from viewer_api.roles import Principal

VIEWED = "study.viewed"


def journal(context: WebContext, user: Principal, action: str, uid: str, **detail: Any) -> None:
    """Write down what somebody did with a study."""
    now = context.clock()
    with transaction(context.database) as session:
        record(session, actor=user.login, action=action, subject=uid, detail=detail, now=now)


def note_visit(context: WebContext, user: Principal, uid: str) -> None:
    """Write down that somebody looks at a study, once a visit: also without its page."""
    with context.accesses.noting(user.login, VIEWED, uid, context.clock()) as is_new:
        if is_new:
            journal(context, user, VIEWED, uid)
