"""The loop that asks destinations whether they hold what they took, and answers who asks us.

What is due stands in the ledger, with the time when it is asked again; a process that dies in
between is made up for by the next one after the lease. Each peer is asked about everything at once,
one request at a time, so that a slow one holds up nobody else.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from dicom_out.commitment import ASKED, REPORTED, ask_commitment, report_commitment
from dicom_out.destination import AskFor, Destination, Outcome, Verdict, next_delay_s
from dicom_out.query import held_of
from ledger import proofs
from ledger.database import reading, transaction
from ledger.domain import Proof
from ledger.errors import PacsightError
from ledger.events import record
from ledger.proofs import Sent
from ledger.tables import CommitmentRequest, Delivery
from pacsight.peers import QueryJournal
from pacsight.settings import Settings
from scp.commitment import (
    CLASS_INSTANCE_CONFLICT,
    RESOURCE_LIMITATION,
    answer_to,
    claim_requests,
    note_answered,
    take_report,
)
from scp.config import Source

logger = logging.getLogger(__name__)

TICK_S = 1.0
LEASE_S = 300.0
SAME_ASSOCIATION_S = 5.0
"""How long an association stays open for the report."""
LOOKS = 5
"""A destination files some objects late: it is asked so often before they are sent again."""
PEERS_AT_A_TIME = 4
DUPLICATE_TRANSACTION, CLASS_NOT_SUPPORTED = 0x0131, 0x0122
"""Failure Reasons (PS3.3 section C.14)"""
ASK_ANEW = {RESOURCE_LIMITATION, DUPLICATE_TRANSACTION}
NEVER = {CLASS_INSTANCE_CONFLICT, CLASS_NOT_SUPPORTED}


class Prover:
    """One runs in each worker that delivers; several at once do no harm."""

    def __init__(self, settings: Settings, database: Engine, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._queries = QueryJournal(database, clock)
        self._asked = {one.name: one for one in settings.destinations if one.proof != AskFor.NONE}
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(PEERS_AT_A_TIME, "prover")
        self._running: dict[str, Future[None]] = {}

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set."""
        self._stop = stop
        while not stop.wait(TICK_S):
            try:
                self.tick()
            except PacsightError as error:
                logger.warning("no proofs for now: %s: %s", error.code, error)
        self.close()

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(cancel_futures=True)

    def tick(self) -> None:
        """Start what is due, one piece of work for each peer at a time."""
        now = self._clock()
        with reading(self._database) as session:
            due = session.scalars(
                select(Delivery.destination).where(Delivery.proof_due_at <= now).distinct()
            ).all()
            is_asked = session.scalar(
                select(CommitmentRequest.id).where(CommitmentRequest.next_attempt_at <= now)
            )
        if set(due) - self._asked.keys():
            with transaction(self._database) as session:
                proofs.settle_unasked(session, list(self._asked))
        for name in self._asked.keys() & set(due):
            self._start(name, partial(self.ask, self._asked[name]))
        if is_asked is not None:
            self._start("", self.answer)

    def _start(self, name: str, work: Callable[[], None]) -> None:
        running = self._running.get(name)
        if running is None or running.done():
            self._running[name] = self._pool.submit(_guarded, name, work)

    def ask(self, destination: Destination) -> None:
        """Ask a destination about everything that is due."""
        with transaction(self._database) as session:
            sent = proofs.claim_unproven(
                session, destination.name, now=self._clock(), lease_s=LEASE_S
            )
        unsure = self._after_failures(destination, sent)
        is_auto = destination.proof == AskFor.AUTO
        if destination.proof == AskFor.FIND:
            self._look(destination, unsure)
            return
        silent = [one for one in unsure if is_auto and one.is_unanswered]
        self._look(destination, silent)
        self._commit(destination, [one for one in unsure if one not in silent])

    def _after_failures(self, destination: Destination, sent: Sequence[Sent]) -> list[Sent]:
        """Send again what a destination says it does not hold; return what is still to be asked."""
        failed = [one for one in sent if one.failure_reason is not None]
        anew = [one for one in failed if one.failure_reason in ASK_ANEW]
        never = [one for one in failed if one.failure_reason in NEVER]
        self._later(anew, "NOT_COMMITTED: The destination asks for patience.")
        for one in failed:
            if one in anew or (one in never and destination.proof == AskFor.AUTO):
                continue
            reason = (
                f"NOT_COMMITTED: The destination does not hold it (0x{one.failure_reason:04X})."
            )
            self._send_again([one], reason, for_ever=one in never)
        left = [one for one in never if destination.proof == AskFor.AUTO]
        return [*left, *(one for one in sent if one.failure_reason is None)]

    def _commit(self, destination: Destination, sent: Sequence[Sent]) -> None:
        if not sent:
            return
        uid = f"2.25.{uuid.uuid4().int}"  # PS3.5 section B.2
        due_at = self._clock() + self._settings.delivery.commitment_timeout_s
        with transaction(self._database) as session:
            proofs.note_request(session, sent, uid, due_at)
        verdict = ask_commitment(
            uid,
            [(one.sop_class_uid, one.sop_instance_uid) for one in sent],
            destination,
            calling_ae_title=self._settings.scp.ae_title,
            on_report=lambda event: take_report(self._database, event, self._clock()),
            is_answered=partial(self._is_answered, uid),
            patience_s=SAME_ASSOCIATION_S,
        )
        if verdict is ASKED:
            return
        if verdict.outcome is Outcome.REFUSED and destination.proof == AskFor.AUTO:
            self._look(destination, sent)
        else:
            self._later(sent, f"{verdict.code}: {verdict.message}")

    def _look(self, destination: Destination, sent: Sequence[Sent]) -> None:
        """Prove by C-FIND what is listed there."""
        if not sent:
            return
        series = dict.fromkeys((one.study_instance_uid, one.series_instance_uid) for one in sent)
        title, note = self._settings.scp.ae_title, self._queries.of(destination)
        held = held_of(series, destination, title, note)
        if isinstance(held, Verdict):
            is_last = held.outcome is Outcome.REFUSED and destination.proof == AskFor.AUTO
            if is_last:  # it offers nothing to be asked by
                self._prove(sent, Proof.SUCCESS)
            else:
                self._later(sent, f"{held.code}: {held.message}")
            return
        self._prove([one for one in sent if one.sop_instance_uid in held], Proof.FIND)
        missing = [one for one in sent if one.sop_instance_uid not in held]
        why = "NOT_FOUND: The destination took it and does not list it."
        self._later([one for one in missing if one.attempts + 1 < LOOKS], why)
        self._send_again([one for one in missing if one.attempts + 1 >= LOOKS], why)

    def _is_answered(self, transaction_uid: str) -> bool:
        if self._stop.is_set():
            return True
        with reading(self._database) as session:
            return proofs.is_answered(session, transaction_uid)

    def _prove(self, sent: Sequence[Sent], proof: Proof) -> None:
        with transaction(self._database) as session:
            proofs.prove(session, sent, proof, self._clock())

    def _later(self, sent: Sequence[Sent], why: str) -> None:
        now, rules = self._clock(), self._settings.delivery
        due_at = {one.delivery_id: now + next_delay_s(one.attempts + 1, rules) for one in sent}
        with transaction(self._database) as session:
            proofs.ask_later(session, sent, due_at, why)

    def _send_again(self, sent: Sequence[Sent], why: str, *, for_ever: bool = False) -> None:
        now, rules = self._clock(), self._settings.delivery
        with transaction(self._database) as session:
            proofs.send_again(
                session,
                sent,
                due_at=now + rules.first_retry_s,
                give_up_after_s=-1.0 if for_ever else rules.give_up_after_s,
                why=why,
                now=now,
            )

    def answer(self) -> None:
        """Report to those who have asked us, and go on trying for as long as deliveries do."""
        with transaction(self._database) as session:
            due = claim_requests(session, self._clock(), LEASE_S)
        for request in due:
            peer = self._peer(request)
            if peer is None:
                text = f"{request.calling_ae_title} is neither a source nor a destination; add it."
                verdict = Verdict(Outcome.FAILED, "PEER_UNKNOWN", text, is_retryable=True)
            else:
                with reading(self._database) as session:
                    report = answer_to(session, request)
                title = self._settings.scp.ae_title
                verdict = report_commitment(*report, peer, calling_ae_title=title)
            with transaction(self._database) as session:
                self._settle(session, session.get_one(CommitmentRequest, request.id), verdict)

    def _settle(self, session: Session, row: CommitmentRequest, verdict: Verdict) -> None:
        now, rules = self._clock(), self._settings.delivery
        row.attempts += 1
        if verdict is REPORTED:
            note_answered(session, row, now)
            return
        row.last_error = f"{verdict.code}: {verdict.message}"
        row.next_attempt_at = now + next_delay_s(row.attempts, rules)
        if row.next_attempt_at > row.received_at + rules.give_up_after_s:
            row.next_attempt_at = None
            record(
                session,
                actor="worker",
                action="commitment.dead",
                subject=row.transaction_uid,
                detail={"peer": row.calling_ae_title, "code": verdict.code},
                now=now,
            )

    def _peer(self, request: CommitmentRequest) -> Destination | None:
        """Return where a peer is reached; of several of its title the one at its address."""
        peers: list[Source | Destination] = [
            *self._settings.sources,
            *self._settings.destinations,
        ]
        known = [
            one
            if isinstance(one, Destination)
            else Destination(
                name="peer", ae_title=one.ae_title, host=one.host, port=one.port, tls=one.tls
            )
            for one in peers
            if one.ae_title == request.calling_ae_title
        ]
        return next((one for one in known if one.host == request.peer_address), (*known, None)[0])


def _guarded(name: str, work: Callable[[], None]) -> None:
    try:
        work()
    except PacsightError as error:
        logger.warning("%s: no proofs for now: %s: %s", name, error.code, error)
    except Exception as error:  # noqa: BLE001 - a silent end would leave what is due for ever
        logger.error("%s: no proofs for now: %s", name, type(error).__name__)
