"""The DICOM listener: C-ECHO, announcements, commitment, and C-STORE whose Success means durable.

Order for every object: bytes written, ``fdatasync``, ledger row committed, then the response.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pynetdicom import build_context
from pynetdicom.sop_class import Verification
from sqlalchemy import Engine

from scp.announcements import Announcements
from scp.commitment import Commitments
from scp.config import ListenerConfig
from scp.errors import ListenerError
from scp.group_commit import GroupCommit, close_lost_associations
from scp.receive_counts import ReceiveCounts
from scp.reception import Intake
from scp.server import StoreServer
from scp.spool import Spool

LOGGER = logging.getLogger(__name__)
STOP_GRACE_S = 5.0


class Listener:
    """Receives objects into a spool and the ledger. A context manager; starts once.

    Parameters
    ----------
    config
        Port, peers and limits.
    spool_dir
        Folder of the segments; made when it doesn't exist.
    engine
        The migrated ledger, SQLite or PostgreSQL.
    name
        Of this listener in the ledger. No two running listeners may share one: at start, the
        associations that a dead one of this name left open are closed as lost.
    """

    def __init__(
        self,
        config: ListenerConfig,
        spool_dir: Path,
        engine: Engine,
        name: str,
    ) -> None:
        self._config = config
        self._spool_dir = spool_dir
        self._engine = engine
        self._name = name
        self._spool: Spool | None = None
        self._commits: GroupCommit | None = None
        self._server: StoreServer | None = None
        self._acceptor: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen; returns when connections are accepted.

        Raises
        ------
        ListenerError
            The port can't be had.
        SpoolError
            The spool folder can't be used.
        TlsError
            A certificate or the key can't be used.
        ledger.errors.LedgerError
            The ledger can't be written.
        """
        if self._server is not None:
            raise ValueError("a listener starts once")
        tls = self._config.tls.context() if self._config.tls is not None else None
        close_lost_associations(self._engine, self._name)
        spool = Spool(
            self._spool_dir,
            segment_bytes=self._config.segment_bytes,
            reserve_bytes=self._config.disk_reserve_bytes,
        )
        commits = GroupCommit(self._engine, timeout_s=self._config.commit_timeout_s)
        announcements = Announcements(self._engine)
        commitments = Commitments(self._engine, is_offered=self._config.commits_storage)
        try:
            server = StoreServer(
                self._config,
                Intake(spool, commits),
                self._name,
                [build_context(Verification), *announcements.contexts, *commitments.contexts],
                [*announcements.handlers, *commitments.handlers],
                tls=tls,
            )
        except OSError as error:
            spool.close()
            raise ListenerError(
                f"{self._config.host} port {self._config.port} can't be listened on: "
                f"{error.strerror}; is another program using it?"
            ) from error
        commits.start()
        self._spool, self._commits, self._server = spool, commits, server
        self._acceptor = threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="listener-accept",
            daemon=True,
        )
        self._acceptor.start()
        LOGGER.info(
            "%s listens on port %d as %s%s",
            self._name,
            self.port,
            self._config.ae_title,
            " with TLS" if tls is not None else "",
        )

    @property
    def port(self) -> int:
        """The TCP port in use; that of the settings before :meth:`start`."""
        if self._server is None:
            return self._config.port
        return int(self._server.server_address[1])

    @property
    def is_listening(self) -> bool:
        """Whether connections are accepted."""
        return self._acceptor is not None and self._acceptor.is_alive()

    @property
    def associations(self) -> int:
        """How many are open."""
        return 0 if self._server is None else len(self._server.active_associations)

    @property
    def counts(self) -> ReceiveCounts:
        """What was done since the start."""
        return ReceiveCounts() if self._server is None else self._server.intake.counts

    def check_reserve(self) -> None:
        """Raise :class:`scp.errors.SpoolFullError` when less than the reserve is free."""
        if self._spool is not None:
            self._spool.check_reserve()

    def stop(self) -> None:
        """Accept nothing more, let messages in progress end within seconds, close everything."""
        if self._acceptor is None or self._server is None:
            return
        self._server.shutdown()
        self._acceptor.join()
        self._acceptor = None
        self._server.end_associations(STOP_GRACE_S)
        assert self._commits is not None
        assert self._spool is not None
        self._commits.stop()
        self._spool.close()
        LOGGER.info("%s stopped", self._name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
