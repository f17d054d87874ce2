"""One C-STORE from its request to its status: checked, spooled, committed, or refused."""

from __future__ import annotations

import time
from typing import Any, Protocol

from pynetdicom.presentation import PresentationContext

from ledger.domain import ObjectState
from scp.contexts import is_storage_sop_class
from scp.errors import (
    MissingDataSetError,
    MissingUidError,
    ReceiveError,
    SpoolError,
    WrongContextError,
)
from scp.group_commit import GroupCommit
from scp.ledger_writer import AssociationRecord
from scp.part10 import encode_file_meta
from scp.receive_counts import ReceiveCounts
from scp.spool import BUFFER_BYTES, ObjectWriter, Spool
from scp.store_message import SUCCESS, StoreRequest, is_uid


class ByteSource(Protocol):
    """Where the data set comes from."""

    def recv_exact(self, view: memoryview) -> None:
        """Fill `view` or raise OSError."""


class Intake:
    """Where objects go: the spool and the ledger."""

    def __init__(self, spool: Spool, commits: GroupCommit) -> None:
        self.spool = spool
        self.commits = commits
        self.counts = ReceiveCounts()


class Reception:
    """A C-STORE in progress.

    Once it is refused, the rest of the data set is read and thrown away, because the sender only
    listens after its last byte (PS3.7 section 9.3.1).

    Parameters
    ----------
    context
        The accepted presentation context that the request names.
    buffer
        Of ``BUFFER_BYTES``; this reception's alone until it ends.
    """

    def __init__(
        self,
        intake: Intake,
        request: StoreRequest,
        context: PresentationContext,
        record: AssociationRecord,
        buffer: memoryview,
    ) -> None:
        self.request = request
        self._intake = intake
        self._transfer_syntax_uid = str(context.transfer_syntax[0])
        self._record = record
        self._buffer = buffer
        self._writer: ObjectWriter | None = None
        self._refusal: ReceiveError | None = None
        self._began = time.perf_counter()
        try:
            _check(request, context.abstract_syntax)
            header = encode_file_meta(
                request.sop_class_uid,
                request.sop_instance_uid,
                self._transfer_syntax_uid,
                record.calling_ae_title,
            )
            self._writer = intake.spool.begin(header, buffer)
        except ReceiveError as error:
            self._refusal = error

    def read_from(self, source: ByteSource, length: int) -> None:
        """Take the next `length` bytes of the data set.

        Raises
        ------
        OSError
            Of the source; call :meth:`drop` then. Trouble with the disk only refuses the object.
        """
        while length:
            room = self._room(length)
            source.recv_exact(room)
            length -= len(room)
            if self._writer is not None:
                self._writer.advance(len(room))

    def _room(self, wanted: int) -> memoryview:
        if self._writer is not None:
            try:
                return self._writer.room(wanted)
            except SpoolError as error:
                self._refuse(error)
        return self._buffer[:wanted]  # to be thrown away

    def finish(self) -> tuple[int, str]:
        """Make the object durable; return status and Error Comment for the response."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._commit(writer)
            except ReceiveError as error:
                self._refuse(error)
        if self._refusal is None:
            return SUCCESS, ""
        self._intake.counts.refuse(self._refusal.status)
        return self._refusal.status, str(self._refusal)

    def drop(self) -> None:
        """Forget an object that did not come through."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None

    @property
    def refusal(self) -> ReceiveError | None:
        """Why the object is not taken."""
        return self._refusal

    def _refuse(self, error: ReceiveError) -> None:
        self._writer = None
        self._refusal = error

    def _commit(self, writer: ObjectWriter) -> None:
        spooled = writer.seal()
        self._intake.commits.store(
            self._record,
            {
                "sop_class_uid": self.request.sop_class_uid,
                "sop_instance_uid": self.request.sop_instance_uid,
                "transfer_syntax_uid": self._transfer_syntax_uid,
                "segment": spooled.segment,
                "offset": spooled.offset,
                "size": spooled.size,
                "received_at": time.time(),
                "priority": self.request.priority,
                "state": ObjectState.RECEIVED.value,
            },
        )
        self._intake.counts.stored(spooled.size, time.perf_counter() - self._began)


def make_buffer() -> memoryview:
    """Return a buffer for :class:`Reception`."""
    return memoryview(bytearray(BUFFER_BYTES))


def _check(request: StoreRequest, abstract_syntax: Any) -> None:
    if not is_uid(request.sop_class_uid):
        raise MissingUidError("Affected SOP Class UID is missing or no UID.")
    if not is_uid(request.sop_instance_uid):
        raise MissingUidError("Affected SOP Instance UID is missing or no UID.")
    if request.sop_class_uid != abstract_syntax or not is_storage_sop_class(abstract_syntax):
        raise WrongContextError("The SOP class is not that of its presentation context.")
    if not request.has_data_set:
        raise MissingDataSetError("The request brings no data set.")
