"""The event log to the audit collector: in order, at least once, however long it was down.

The log itself is the spool. How far it was sent stands in the ledger and moves on only when the
collector has closed a connection in good order. A collector that is killed may have read what it
has not written, and its machine closes for it: so when it is found gone, what it got shortly before
is sent once more. One process sends at a time; if it dies, another takes over and may send its last
batch again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections import deque
from dataclasses import dataclass

from sqlalchemy import Engine, or_, select, update
from sqlalchemy.orm import Session

from ledger.database import clock_of, reading, transaction
from ledger.tables import AuditForwarding, Event
from pacsight.audit.config import AuditConfig, CollectorConfig
from pacsight.audit.syslog import format_message, send_messages
from pacsight.audit.trail import Ourselves, message_of
from pacsight.errors import CollectorError
from pacsight.work import INSERT

logger = logging.getLogger(__name__)

BATCH = 200
"""Events of one connection."""
DOUBTFUL_S = 10.0
"""How long before a collector is found gone it may have kept messages in memory only."""


@dataclass(frozen=True, slots=True)
class _Batch:
    messages: list[bytes]
    first: int
    last: int


class Forwarder:
    """Sends what is sealed and not yet sent.

    Parameters
    ----------
    ourselves
        Who reports.
    """

    def __init__(
        self,
        database: Engine,
        config: AuditConfig,
        collector: CollectorConfig,
        ourselves: Ourselves,
    ) -> None:
        self._database = database
        self._config = config
        self._collector = collector
        self._ourselves = ourselves
        self._holder = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._lately: deque[tuple[float, int]] = deque()
        """when, by the monotonic clock, and after which number each batch was sent first"""
        self._sent_twice = 0
        self._lease_s = 2 * collector.timeout_s + 20.0

    def forward(self) -> int:
        """Send one batch; return how many events it took the collector further, 0 for none.

        Raises
        ------
        CollectorError
            The collector can't be reached: the batch is sent again later.
        LedgerError
            The database can't be used.
        """
        with reading(self._database) as session:
            row = session.get(AuditForwarding, self._collector.name)
            sent = 0 if row is None else row.sent_number
            is_due = session.scalar(select(Event.id).where(Event.number > sent).limit(1))
        if is_due is None or not self._take():
            return 0
        with reading(self._database) as session:
            batch = self._batch(session)
        if batch.messages:
            try:
                send_messages(self._collector, batch.messages)
            except CollectorError:
                self._step_back(batch.first)
                raise
            self._forget_settled()
            if batch.last > self._sent_twice:
                new = max(batch.first, self._sent_twice)
                self._lately.append((time.monotonic(), new))
        self._move(batch.last)
        return batch.last - batch.first

    def _step_back(self, sent: int) -> None:
        """Take back what was sent lately, but nothing twice."""
        self._forget_settled()
        if self._lately:
            self._move(self._lately[0][1])
            self._lately.clear()
            self._sent_twice = sent

    def _forget_settled(self) -> None:
        while self._lately and self._lately[0][0] < time.monotonic() - DOUBTFUL_S:
            self._lately.popleft()

    def stop(self) -> None:
        """Let another go on at once."""
        with transaction(self._database) as session:
            session.execute(
                update(AuditForwarding)
                .where(AuditForwarding.holder == self._holder)
                .values(held_until=0.0)
            )

    def _take(self) -> bool:
        """Become the one that sends, or stay it; tell whether that is so."""
        with transaction(self._database) as session:
            new = INSERT[session.get_bind().dialect.name](AuditForwarding).values(
                collector=self._collector.name, sent_number=0, holder="", held_until=0.0
            )
            session.execute(new.on_conflict_do_nothing())
            now = clock_of(session)
            taken = session.execute(
                update(AuditForwarding)
                .where(
                    AuditForwarding.collector == self._collector.name,
                    or_(AuditForwarding.holder == self._holder, AuditForwarding.held_until <= now),
                )
                .values(holder=self._holder, held_until=now + self._lease_s)
                .returning(AuditForwarding.collector)
                .execution_options(synchronize_session=False)
            )
            return taken.one_or_none() is not None

    def _batch(self, session: Session) -> _Batch:
        start = session.get_one(AuditForwarding, self._collector.name).sent_number
        events = session.scalars(
            select(Event).where(Event.number > start).order_by(Event.number).limit(BATCH)
        ).all()
        messages = []
        for event in events:
            message = message_of(session, event, self._ourselves)
            if message is not None:
                xml = message.to_xml(source_id=self._config.source_id, site_id=self._config.site_id)
                messages.append(format_message(xml, at=event.at, host=self._ourselves.host))
        last = start if not events else int(events[-1].number or start)
        return _Batch(messages, start, last)

    def _move(self, sent_number: int) -> None:
        with transaction(self._database) as session:
            session.execute(
                update(AuditForwarding)
                .where(
                    AuditForwarding.collector == self._collector.name,
                    AuditForwarding.holder == self._holder,
                )
                .values(sent_number=sent_number)
            )
