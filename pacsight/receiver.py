"""The receiving process: listens, stores, acknowledges. It never loads a network."""

from __future__ import annotations

import logging
import socket
import threading

from scp.listener import Listener

from pacsight.settings import Settings, open_ledger

logger = logging.getLogger(__name__)


def run_receiver(settings: Settings, stop: threading.Event, *, name: str | None = None) -> None:
    """Receive until `stop` is set.

    Parameters
    ----------
    name
        Which listener's open associations to close after a crash; default: this host.

    Raises
    ------
    LedgerError
        The database can't be opened.
    scp.errors.ReceiveError
        The port is taken or the spool can't be written.
    """
    database = open_ledger(settings)
    settings.spool_dir.mkdir(parents=True, exist_ok=True)
    listener = Listener(settings.scp, settings.spool_dir, database, name or socket.gethostname())
    listener.start()
    logger.info("receiving as %s on port %d", settings.scp.ae_title, listener.port)
    try:
        stop.wait()
    finally:
        listener.stop()
        database.dispose()
