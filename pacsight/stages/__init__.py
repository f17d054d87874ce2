"""The four stages of the workflow: plain functions of a context and a unit of work.

Each first looks whether its output is in the ledger already, so that a repetition after a crash
changes nothing; each writes files before the rows that name them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from ledger.database import reading, transaction
from ledger.errors import PacsightError
from pacsight.stages.context import StageContext, refuse_held
from pacsight.stages.deliver import deliver_results, postpone
from pacsight.stages.encode import encode_decision
from pacsight.stages.observed import observed
from pacsight.stages.predict import predict_decision
from pacsight.stages.route import route_revision
from pacsight.work import Stage, Work, job_done, job_failed, job_hindered, job_started

logger = logging.getLogger(__name__)

STAGES: Mapping[Stage, Callable[[StageContext, Work], Sequence[Work]]] = {
    Stage.ROUTE: route_revision,
    Stage.PREDICT: predict_decision,
    Stage.ENCODE: encode_decision,
    Stage.DELIVER: deliver_results,
}

STARTS_OF_A_JOB = 10
"""A job in the middle of which its worker has died so often in a row is given up."""


def perform(context: StageContext, work: Work) -> Sequence[Work]:
    """Do one unit of work, journal how it ended, and return the units that follow.

    Raises
    ------
    PacsightError
        A retryable one: the engine tries again. Every other error ends the job as failed, with its
        code in the ledger.
    """
    with observed(context, work) as outcome:
        following, outcome.word = _perform(context, work)
        return following


def _perform(context: StageContext, work: Work) -> tuple[Sequence[Work], str]:
    with transaction(context.database) as session:
        starts = job_started(session, work, context.clock())
    if starts > STARTS_OF_A_JOB:
        message = "Its worker ended each time; see the log. Given up; replay the study."
        _fail(context, work, "JOB_GIVEN_UP", message)
        return [], "failed"
    try:
        with reading(context.database) as session:
            refuse_held(session, work.revision_id)
        following = STAGES[work.stage](context, work)
    except PacsightError as error:
        if error.retryable:
            logger.warning("%s is tried again: %s", work.key, error.code)
            with transaction(context.database) as session:
                job_hindered(session, work, error.code, str(error))
            raise
        _fail(context, work, error.code, str(error))
        return [], "failed"
    except Exception as error:  # noqa: BLE001 - the one place: a defect ends a job, never a worker
        # Neither the message nor the locals are logged: they may hold a patient's data.
        logger.error("%s failed: %s", work.key, _where(error))
        _fail(
            context, work, "INTERNAL_ERROR", f"{type(error).__name__}; please report this defect."
        )
        return [], "failed"
    with transaction(context.database) as session:
        job_done(session, work, context.clock())
    logger.info("%s done", work.key)
    return following, "done"


def _fail(context: StageContext, work: Work, code: str, message: str) -> None:
    with transaction(context.database) as session:
        job_failed(session, work.key, code, message, context.clock())
        if work.stage is Stage.DELIVER:
            postpone(session, work, context.settings.delivery, context.clock())
    logger.warning("%s failed: %s", work.key, code)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    places = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(places)}"
