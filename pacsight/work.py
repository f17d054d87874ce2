"""Units of work and their rows in the ledger.

A unit's ``key`` is the durable engine's workflow id and the idempotency key: the same study
revision, model or delivery attempt has the same key for ever, so starting it twice starts it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from ledger.domain import JobState
from ledger.tables import Job
from ledger.worklist import touch_revision

INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Stage(StrEnum):
    """The stages between a complete study and its delivered results."""

    ROUTE = "route"
    PREDICT = "predict"
    ENCODE = "encode"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Work:
    """One stage to be done for one subject."""

    stage: Stage
    revision_id: int
    decision_id: int = 0
    """routing decision: everything but ROUTE"""
    destination: str = ""
    """DELIVER only"""
    attempt: int = 0
    """DELIVER only, from 1"""
    is_stat: bool = False
    """goes before what is routine; no part of the key"""

    @property
    def key(self) -> str:
        """The workflow id."""
        match self.stage:
            case Stage.ROUTE:
                return f"route:{self.revision_id}"
            case Stage.DELIVER:
                return f"deliver:{self.decision_id}:{self.destination}:{self.attempt}"
            case _:
                return f"{self.stage}:{self.decision_id}"

    def to_json(self) -> dict[str, Any]:
        """Return the arguments that the engine stores."""
        return {
            "stage": self.stage.value,
            "revision_id": self.revision_id,
            "decision_id": self.decision_id,
            "destination": self.destination,
            "attempt": self.attempt,
            "is_stat": self.is_stat,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Work:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**data, "stage": Stage(data["stage"])})


def job_queued(session: Session, work: Work, subject: str, now: float) -> None:
    """Record that `work` waits for a worker; nothing happens if it is known already."""
    insert = INSERT[session.get_bind().dialect.name]
    row = insert(Job).values(
        id=work.key,
        revision_id=work.revision_id,
        stage=work.stage,
        subject=subject,
        state=JobState.QUEUED,
        created_at=now,
    )
    session.execute(row.on_conflict_do_nothing())
    touch_revision(session, work.revision_id, now)


def job_started(session: Session, work: Work, now: float) -> int:
    """Record that a worker has taken `work` up; return how often that was in vain, plus one."""
    job = session.get_one(Job, work.key)
    job.state, job.started_at, job.error_code, job.error = JobState.RUNNING, now, None, None
    touch_revision(session, job.revision_id, now)
    job.starts += 1
    return job.starts


def job_done(session: Session, work: Work, now: float) -> None:
    """Record that `work` is finished."""
    job = session.get_one(Job, work.key)
    job.state, job.finished_at, job.error_code, job.error = JobState.DONE, now, None, None
    touch_revision(session, job.revision_id, now)


def job_hindered(session: Session, work: Work, code: str, message: str) -> None:
    """Record why `work` did not get on this time; it will be tried again."""
    job = session.get_one(Job, work.key)
    job.error_code, job.error, job.starts = code, message, 0


def job_failed(session: Session, key: str, code: str, message: str, now: float) -> None:
    """Record that a job has ended without a result, and why."""
    job = session.get_one(Job, key)
    job.state, job.finished_at = JobState.FAILED, now
    job.error_code, job.error = code, message
    touch_revision(session, job.revision_id, now)
