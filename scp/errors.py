"""Errors of the receive path::

    ReceiveError              an object or association is refused; carries a DIMSE status
    ├── SpoolError            the spool can't take or give bytes
    │   └── SpoolFullError    below the disk reserve, or the disk is full
    ├── CommitError           the ledger did not commit
    ├── MissingUidError       the C-STORE names no usable SOP Instance
    ├── WrongContextError     the SOP class is not the one negotiated
    └── ListenerError         the listener can't start

The status is what the sender gets (PS3.4 Annex B.2.3, PS3.7 Annex C); the sentence goes into Error
Comment (0000,0902), so it stays within 64 characters.
"""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import PacsightError


class ReceiveError(PacsightError):
    """Base of everything that can go wrong while objects come in."""

    code: ClassVar[str] = "RECEIVE_FAILED"
    status: ClassVar[int] = 0xC000  # Cannot understand, PS3.4 table B.2-1


class SpoolError(ReceiveError):
    """Bytes can't be written to, synced in or read from the spool."""

    code = "SPOOL_FAILED"
    retryable = True
    status = 0xA700  # Refused: Out of resources, PS3.4 table B.2-1


class SpoolFullError(SpoolError):
    """Less free space than the reserve is left."""

    code = "SPOOL_FULL"


class CommitError(ReceiveError):
    """The ledger row was not committed, so the object must not be acknowledged."""

    code = "LEDGER_COMMIT_FAILED"
    retryable = True
    status = 0xA700


class MissingUidError(ReceiveError):
    """Affected SOP Class or Instance UID is absent or no UID (PS3.5 section 9.1)."""

    code = "SOP_UID_INVALID"
    status = 0xC000


class WrongContextError(ReceiveError):
    """Affected SOP Class UID differs from the presentation context's abstract syntax."""

    code = "SOP_CLASS_NOT_NEGOTIATED"
    status = 0x0122  # Refused: SOP Class not supported, PS3.7 section C.5.7


class ListenerError(ReceiveError):
    """The listener can't listen."""

    code = "LISTENER_FAILED"
    retryable = True
