"""The receiving process: listens, stores, acknowledges. It never loads a network."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from contextlib import AbstractContextManager, nullcontext

from pydicom import config as pydicom_config
from sqlalchemy import Engine

from pacsight.exclusive import exclusive
from pacsight.logs import apply_log_settings
from pacsight.program import journalled
from pacsight.rejections import RejectionJournal
from pacsight.settings import Settings, open_ledger
from scp.listener import Listener

logger = logging.getLogger(__name__)


def run_receiver(settings: Settings, stop: threading.Event, *, name: str | None = None) -> None:
    """Receive until `stop` is set.

    Parameters
    ----------
    name
        Which listener's open associations to close after a crash; default: this host.

    Raises
    ------
    AlreadyRunningError
        A receiver of that name runs on this data folder.
    LedgerError
        The database can't be opened.
    scp.errors.ReceiveError
        The port is taken or the spool can't be written.
    """
    apply_log_settings(settings.log, "scp")
    name = name or socket.gethostname()
    with exclusive(settings.data_dir / f"scp-{name}.lock"):
        database = open_ledger(settings)
        _tune_process()
        with (
            journalled(database, "scp", name),
            Listener(settings.scp, settings.spool_dir, database, name) as listener,
            RejectionJournal(database, listener.counts),
            _monitor(settings, database, listener),
        ):
            logger.info("receiving as %s on port %d", settings.scp.ae_title, listener.port)
            stop.wait()
        database.dispose()


def _monitor(
    settings: Settings, database: Engine, listener: Listener
) -> AbstractContextManager[object]:
    if settings.monitoring.scp_port is None:
        return nullcontext()
    from pacsight.monitoring.receiver import monitor_receiver  # 5 MB

    return monitor_receiver(settings, database, listener)


def _tune_process() -> None:
    """Spare senders what this process has no use for.

    pydicom would match every UID of an association request against a pattern, half of what a short
    association costs: this process reads no data set, and `scp` checks the UIDs that it stores. And
    the garbage collector need not walk through imported modules while senders wait.
    """
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    gc.collect()
    gc.freeze()
