"""Storage Commitment Push Model (PS3.4 Annex J), as the listener serves it.

Others ask whether we hold what they sent (we are SCP): the request is noted, and answered one
second later on the same association if that still stands, else by the worker on one of its own,
which goes on trying. And destinations that we have asked report here (we are SCU).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.domain import ObjectState
from ledger.errors import LedgerError
from ledger.events import record
from ledger.facts import read_text_value
from ledger.proofs import note_report
from ledger.tables import CommitmentRequest, Instance, ReceivedObject, ResultObjectRow
from scp.readable import PROCESSING_FAILURE, readable
from scp.store_message import is_uid

LOGGER = logging.getLogger(__name__)

INSTANCE = "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Instance, well-known (PS3.4 section J.3.5)"""
REQUEST = 1
"""Action Type ID (PS3.4 table J.3-1)"""
ALL_HELD, SOME_FAILED = 1, 2
"""Event Type IDs (PS3.4 table J.3-2)"""
MAX_INSTANCES = 100_000
"""in one request; longer ones are refused"""
SAME_ASSOCIATION_AFTER_S = 1.0
"""Pause before the answer: a peer that releases at once wants it on another association."""
SAME_ASSOCIATION_ANSWER_S = 10.0
WORKER_AFTER_S = 20.0
"""When the worker answers, should this process die in between."""
REPORTS_AT_A_TIME = 8

# PS3.7 Annex C and PS3.3 section C.14 (Failure Reason)
SUCCESS = 0x0000
NO_SUCH_SOP_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
CLASS_INSTANCE_CONFLICT = 0x0119
NO_SUCH_ACTION = 0x0123
RESOURCE_LIMITATION = 0x0213
BATCH = 500
"""UIDs in one query"""

Reference: TypeAlias = tuple[str, str]
"""SOP Class UID and SOP Instance UID"""


class Commitments:
    """Writes down what is asked for and what is reported."""

    def __init__(self, engine: Engine, *, is_offered: bool) -> None:
        self._engine = engine
        self._is_offered = is_offered
        self._slots = threading.BoundedSemaphore(REPORTS_AT_A_TIME)

    @property
    def contexts(self) -> list[PresentationContext]:
        """The service, for the listener: in both roles, which the peer negotiates."""
        context = build_context(StorageCommitmentPushModel)
        context.scu_role = context.scp_role = True
        return [context]

    @property
    def handlers(self) -> list[tuple[evt.EventType, Any]]:
        """Its handlers, for the listener."""
        return [
            (evt.EVT_N_ACTION, readable(self._asked)),
            (evt.EVT_N_EVENT_REPORT, readable(self._reported)),
        ]

    def _reported(self, event: Any) -> tuple[int, None]:
        return take_report(self._engine, event, time.time()), None

    def _asked(self, event: Any) -> tuple[int, None]:
        """Note a request; Success means that the answer will come."""
        if not self._is_offered:
            return PROCESSING_FAILURE, None
        if event.action_type != REQUEST:
            return NO_SUCH_ACTION, None
        if event.request.RequestedSOPInstanceUID != INSTANCE:
            return NO_SUCH_SOP_INSTANCE, None
        uid = read_text_value(event.action_information, "TransactionUID")
        instances = references(event.action_information, "ReferencedSOPSequence")
        if not is_uid(uid) or not instances:
            return INVALID_ARGUMENT, None
        if len(instances) > MAX_INSTANCES:
            return RESOURCE_LIMITATION, None
        about = event.assoc.record
        try:
            request_id = self._note(uid, instances, about.calling_ae_title, about.peer_address)
        except LedgerError as error:
            LOGGER.warning("storage commitment not noted: %s", error.code)
            return PROCESSING_FAILURE, None
        if self._slots.acquire(blocking=False):
            threading.Thread(
                target=self._answer_here,
                args=(event.assoc, request_id),
                name="commitment",
                daemon=True,
            ).start()
        return SUCCESS, None

    def _note(self, uid: str, instances: Sequence[Reference], title: str, address: str) -> int:
        """Write a request down; asked anew under the same UID, it is answered anew."""
        due_at = time.time() + WORKER_AFTER_S
        mine = (
            CommitmentRequest.calling_ae_title == title,
            CommitmentRequest.transaction_uid == uid,
        )
        try:
            with transaction(self._engine) as session:
                known = session.scalar(select(CommitmentRequest).where(*mine))
                if known is not None:
                    known.next_attempt_at, known.attempts = due_at, 0
                    known.instances = [list(one) for one in instances]
                    return known.id
                row = CommitmentRequest(
                    transaction_uid=uid,
                    calling_ae_title=title,
                    peer_address=address,
                    instances=[list(one) for one in instances],
                    received_at=time.time(),
                    next_attempt_at=due_at,
                )
                session.add(row)
                session.flush()
                return row.id
        except IntegrityError:  # the same at the same time
            return self._note(uid, instances, title, address)

    def _answer_here(self, association: Any, request_id: int) -> None:
        """Report on the association of the request, or leave it to the worker."""
        try:
            association.join(SAME_ASSOCIATION_AFTER_S)  # ends early when the association does
            report = None
            if association.is_established:
                with reading(self._engine) as session:
                    report = answer_to(session, session.get_one(CommitmentRequest, request_id))
            is_taken = report is not None and _send_here(association, *report)
            with transaction(self._engine) as session:
                row = session.get_one(CommitmentRequest, request_id)
                if is_taken:
                    note_answered(session, row, time.time())
                else:
                    row.next_attempt_at = time.time()
        except LedgerError as error:
            LOGGER.warning("storage commitment is answered later: %s", error.code)
        finally:
            self._slots.release()


def _send_here(association: Any, event_type: int, report: Dataset) -> bool:
    association.dimse_timeout = SAME_ASSOCIATION_ANSWER_S
    try:
        status, _ = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, INSTANCE
        )
    except (RuntimeError, ValueError):  # released or aborted meanwhile
        return False
    return bool(status.get("Status") == SUCCESS)


def take_report(engine: Engine, event: Any, now: float) -> int:
    """Write down what a destination says about a request of ours, and return the status for it."""
    ds = event.event_information
    held = {uid for _, uid in references(ds, "ReferencedSOPSequence")}
    failed = {
        read_text_value(item, "ReferencedSOPInstanceUID"): _reason(item)
        for item in ds.get("FailedSOPSequence") or ()
    }
    try:
        with transaction(engine) as session:
            is_known = note_report(
                session, read_text_value(ds, "TransactionUID"), held, failed, now
            )
    except LedgerError as error:
        LOGGER.warning("a storage commitment report is not noted: %s", error.code)
        return PROCESSING_FAILURE
    return SUCCESS if is_known else INVALID_ARGUMENT


def _reason(item: Dataset) -> int:
    reason = item.get("FailureReason")
    return reason if isinstance(reason, int) else PROCESSING_FAILURE


def answer_to(session: Session, request: CommitmentRequest) -> tuple[int, Dataset]:
    """Return the Event Type ID and the Event Information that answer a request, as of now."""
    asked = [(one[0], one[1]) for one in request.instances]
    failures = _failures(session, asked)
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    held = [one for one in asked if one not in failures]
    if held:
        ds.ReferencedSOPSequence = [_item(one) for one in held]
    if failures:
        ds.FailedSOPSequence = [_item(one, reason) for one, reason in failures.items()]
    return (SOME_FAILED if failures else ALL_HELD), ds


def request_dataset(transaction_uid: str, instances: Iterable[Reference]) -> Dataset:
    """Return the Action Information of a request (PS3.4 table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = [_item(one) for one in instances]
    return ds


def note_answered(session: Session, request: CommitmentRequest, now: float) -> None:
    """Record that the peer has the answer to its request."""
    request.reported_at, request.next_attempt_at, request.last_error = now, None, None
    record(
        session,
        actor=request.calling_ae_title,
        action="commitment.answered",
        subject=request.transaction_uid,
        detail={"instances": len(request.instances)},
        now=now,
    )


def references(ds: Dataset, keyword: str) -> list[Reference]:
    """Return the instances that a sequence lists, each once."""
    found = {
        read_text_value(item, "ReferencedSOPInstanceUID"): read_text_value(
            item, "ReferencedSOPClassUID"
        )
        for item in ds.get(keyword) or ()
    }
    return [(sop_class, uid) for uid, sop_class in found.items() if is_uid(uid)]


def _item(one: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one
    if reason is not None:
        item.FailureReason = reason
    return item


def _failures(session: Session, asked: Sequence[Reference]) -> dict[Reference, int]:
    """Return what we can't vouch for: bytes that are not here, or that can't be read."""
    held: dict[str, str] = {}
    for start in range(0, len(asked), BATCH):
        held |= _held(session, [uid for _, uid in asked[start : start + BATCH]])
    return {
        (sop_class, uid): CLASS_INSTANCE_CONFLICT if uid in held else NO_SUCH_SOP_INSTANCE
        for sop_class, uid in asked
        if held.get(uid) != sop_class
    }


def _held(session: Session, uids: Sequence[str]) -> dict[str, str]:
    """Return the SOP Class of each instance that is durably here: read, unread, or our result."""
    instances = (
        select(ReceivedObject.sop_instance_uid, ReceivedObject.sop_class_uid)
        .join(Instance, Instance.received_object_id == ReceivedObject.id)
        .where(Instance.sop_instance_uid.in_(uids), Instance.is_current)
        .where(ReceivedObject.state == ObjectState.INDEXED)
    )
    unread = select(ReceivedObject.sop_instance_uid, ReceivedObject.sop_class_uid).where(
        ReceivedObject.state == ObjectState.RECEIVED, ReceivedObject.sop_instance_uid.in_(uids)
    )
    results = select(ResultObjectRow.sop_instance_uid, ResultObjectRow.sop_class_uid).where(
        ResultObjectRow.sop_instance_uid.in_(uids)
    )
    return {
        uid: sop_class
        for query in (results, unread, instances)
        for uid, sop_class in session.execute(query)
    }


def claim_requests(session: Session, now: float, lease_s: float) -> list[CommitmentRequest]:
    """Return the requests whose answer is due, which nobody else takes for `lease_s`."""
    due = session.scalars(
        select(CommitmentRequest)
        .where(CommitmentRequest.next_attempt_at <= now)
        .order_by(CommitmentRequest.next_attempt_at)
        .limit(50)
        .with_for_update(skip_locked=True)
    ).all()
    session.execute(
        update(CommitmentRequest)
        .where(CommitmentRequest.id.in_([row.id for row in due]))
        .values(next_attempt_at=now + lease_s)
        .execution_options(synchronize_session=False)
    )
    return list(due)
