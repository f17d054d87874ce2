"""The durable engine, behind one small seam. Nothing else of Pacsight imports DBOS.

Every unit of :class:`pacsight.work.Work` is one workflow of one step: the step does the work and
returns the units that follow; the workflow then hands those over. Both are checkpointed, so a
process killed anywhere resumes at the step that was running. A parent never waits for a child:
it holds no thread and no queue slot. See ``docs/decisions/0003-durable-engine.md``.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import EnqueueOptions as Options
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from ledger.errors import LedgerError, PacsightError
from pacsight.work import Stage, Work

APPLICATION_VERSION = "pipeline-1"  # constant: the default, a source hash, strands jobs at upgrades
POLL_S = 0.1
RETRIES_OF_A_STEP = 8  # of retryable errors such as a locked ledger: 1 s, 2 s, … about 2 minutes
RECOVERIES = 1_000_000  # pacsight.stages knows better which job kills workers: decision 13
QUEUES = {
    Stage.ROUTE: "cpu",
    Stage.PREDICT: "predict",
    Stage.ENCODE: "cpu",
    Stage.DELIVER: "deliver",
}
STAT, ROUTINE = 1, 10  # of the engine, which takes the smallest number first
FORGOTTEN_AT_A_TIME = 1000
ENDED_WITHOUT_RESULT = ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


class DurableEngine:
    """Runs units of work in this process, each exactly to its end.

    Parameters
    ----------
    url
        ``sqlite:///path`` or ``postgresql://…``.
    executor_id
        Of this process alone: two that live must never share one.
    perform
        Does one unit and returns those that follow. Called from the engine's threads.
    concurrency
        Units at a time in this process, per queue; queues left out are not served.
    """

    def __init__(
        self,
        url: str,
        *,
        executor_id: str,
        perform: Callable[[Work], Sequence[Work]],
        concurrency: dict[str, int],
    ) -> None:
        _create_in_wal(url)
        config: DBOSConfig = {
            "name": "pacsight",
            "system_database_url": url,
            "application_version": APPLICATION_VERSION,
            "executor_id": executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "ERROR",
            "max_executor_threads": sum(concurrency.values()) + 4,
        }
        DBOS(config=config)
        self._concurrency = concurrency
        self._register(perform)

    def _register(self, perform: Callable[[Work], Sequence[Work]]) -> None:
        @DBOS.step(
            name="perform",
            retries_allowed=True,
            max_attempts=RETRIES_OF_A_STEP,
            should_retry=lambda error: isinstance(error, PacsightError) and error.retryable,
        )
        def step(data: dict[str, Any]) -> list[dict[str, Any]]:
            return [following.to_json() for following in perform(Work.from_json(data))]

        @DBOS.workflow(name="work", max_recovery_attempts=RECOVERIES)
        def workflow(data: dict[str, Any]) -> None:
            for following in step(data):
                self.submit(Work.from_json(following))

    def start(self) -> None:
        """Create missing tables and serve the queues."""
        DBOS.listen_queues(list(self._concurrency))
        DBOS.launch()
        for queue in set(QUEUES.values()):
            DBOS.register_queue(
                queue,
                worker_concurrency=self._concurrency.get(queue, 1),
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )

    def stop(self, patience_s: int = 10) -> None:
        """Wait `patience_s` seconds for running steps; what is left is for :meth:`take_over`."""
        DBOS.destroy(workflow_completion_timeout_sec=patience_s, destroy_registry=True)

    def submit(self, work: Work) -> None:
        """Hand `work` over, once per key until it is forgotten."""
        options: Options = {
            "workflow_name": "work",
            "queue_name": QUEUES[work.stage],
            "workflow_id": work.key,
            "priority": STAT if work.is_stat else ROUTINE,
        }
        DBOS.enqueue_workflow_with_options(options, work.to_json())

    def take_over(self, executor_id: str) -> None:
        """Put back into the queues what a dead executor was doing; a living one is fenced off."""
        DBOS._recover_pending_workflows([executor_id])  # private, and the only way: decision 3

    def ended_without_result(self, keys: Iterable[str]) -> dict[str, str]:
        """Return those of `keys` that the engine has given up, with the engine's word for it."""
        found = DBOS.list_workflows(
            workflow_ids=list(keys),
            status=ENDED_WITHOUT_RESULT,
            load_input=False,
            load_output=False,
        )
        return {status.workflow_id: status.status for status in found}

    def forget(self, before: float) -> int:
        """Remove the engine's own notes of work that had ended before, the oldest first.

        Several processes may do so at the same time.

        Parameters
        ----------
        before
            Seconds since 1970 UTC.

        Returns
        -------
        int
            Of how many units: at most :data:`FORGOTTEN_AT_A_TIME`.

        Raises
        ------
        LedgerError
            The database does not do it now.
        """
        moment = datetime.fromtimestamp(before, UTC).isoformat()
        try:
            ended = DBOS.list_workflows(
                status=["SUCCESS", *ENDED_WITHOUT_RESULT],
                end_time=moment,  # begun before: by an index, whichever the database takes
                completed_before=moment,
                limit=FORGOTTEN_AT_A_TIME,
                load_input=False,
                load_output=False,
            )
            if ended:
                DBOS.delete_workflows([one.workflow_id for one in ended])
        except SQLAlchemyError as error:
            raise LedgerError("The engine's old notes can't be removed now.") from error
        return len(ended)


def _create_in_wal(url: str) -> None:
    """Create the engine's SQLite file in WAL mode, which quadruples its rate; it persists."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(parsed.database, timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


logging.getLogger("dbos").setLevel(logging.ERROR)
