"""A unit of work as others see it: a span, a time, and what its log lines are about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ledger.database import reading
from ledger.tables import Decision, Revision
from pacsight.logs import log_about
from pacsight.monitoring.metrics import STAGE
from pacsight.stages.context import StageContext
from pacsight.work import Work


@dataclass(slots=True)
class Outcome:
    """How a unit of work ended: done, failed, or to be tried again."""

    word: str = "retried"


@contextmanager
def observed(context: StageContext, work: Work) -> Iterator[Outcome]:
    """Observe what is done inside; set the outcome's word before its end."""
    with reading(context.database) as session:
        revision = session.get_one(Revision, work.revision_id)
        trace_id, study = revision.trace_id, revision.study_id
        decision = session.get(Decision, work.decision_id)
    attributes: dict[str, str | int] = {
        "pacsight.study": study,
        "pacsight.revision": revision.number,
    }
    if decision is not None:
        attributes["pacsight.model"] = decision.model_id
    if work.destination:
        attributes["pacsight.destination"] = work.destination
        attributes["pacsight.attempt"] = work.attempt
    outcome, began = Outcome(), time.perf_counter()
    try:
        with (
            log_about(trace_id=trace_id, study=study, job=work.key),
            context.tracer.span(trace_id, work.stage, attributes) as note,
        ):
            yield outcome
            note("pacsight.outcome", outcome.word)
    finally:
        STAGE.labels(work.stage, outcome.word).observe(time.perf_counter() - began)
