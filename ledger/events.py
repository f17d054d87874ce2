"""The event log: who did what to what, when."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from ledger.tables import Event


def record(
    session: Session, *, actor: str, action: str, subject: str, detail: dict[str, Any], now: float
) -> None:
    """Append an event; it becomes durable with the session's transaction.

    Parameters
    ----------
    actor
        A role (``worker``), an AE title or a user's login; never a patient.
    action
        What happened to what: ``study.complete``, ``delivery.dead``.
    subject
        A UID or id; never a patient's data.
    detail
        JSON object with codes, counts and UIDs.
    now
        Seconds since 1970 UTC.
    """
    session.add(Event(at=now, actor=actor, action=action, subject=subject, detail=detail))
