"""The root of every error Pacsight reports.

Each package has one tree of its own in its ``errors.py``; all grow from here::

    PacsightError
    ├── LedgerError            the database can't be used
    ├── ArchiveError           old events can't be moved into a file, or the file isn't whole
    ├── StoreError             the object store can't be used
    │   └── StoreMissingError  what the ledger names is not in it
    ├── UnreadableError        a DICOM header can't be read
    │   ├── UidMissingError    an identifying UID is absent or empty
    │   ├── UidInvalidError    an identifying UID is too long or no UID
    │   ├── UidMismatchError   the data set is another SOP Instance than the C-STORE said
    │   ├── TruncatedError     the data set ends too early
    │   ├── HeaderTooLargeError  it has millions of elements and items
    │   └── NotPart10Error     no DICOM file
    ├── scp.errors.ReceiveError
    ├── inference.errors.InferenceError
    ├── dicom_out.errors.ResultError
    └── pacsight.errors.OperationError

An error carries a stable ``code`` that users see and tests compare, whether trying again can help,
and one sentence that says what is wrong and what to do. It never carries a patient's data.
"""

from typing import ClassVar


class PacsightError(Exception):
    """Base of all reported errors; ``str(error)`` is the sentence for people."""

    code: ClassVar[str] = "PACSIGHT"
    retryable: ClassVar[bool] = False


class LedgerError(PacsightError):
    """The ledger can't be opened, migrated or written."""

    code = "LEDGER_UNAVAILABLE"
    retryable = True


class ArchiveError(PacsightError):
    """Old events can't be moved into a file, or such a file isn't what was written."""

    code = "ARCHIVE_UNUSABLE"


class StoreError(PacsightError):
    """The object store can't be written or read."""

    code = "STORE_UNAVAILABLE"
    retryable = True


class StoreMissingError(StoreError):
    """The object store does not hold what the ledger names."""

    code = "STORE_MISSING"
    retryable = False


class UnreadableError(PacsightError):
    """A DICOM header can't be read."""

    code = "HEADER_UNREADABLE"


class UidMissingError(UnreadableError):
    """Study, Series or SOP Instance UID or SOP Class UID is absent or empty."""

    code = "UID_MISSING"


class UidInvalidError(UnreadableError):
    """An identifying UID is no UID (PS3.5 section 9.1)."""

    code = "UID_INVALID"


class UidMismatchError(UnreadableError):
    """The data set is not the SOP Instance that the C-STORE request named."""

    code = "UID_MISMATCH"


class TruncatedError(UnreadableError):
    """The data set ends before its last element does."""

    code = "TRUNCATED"


class HeaderTooLargeError(UnreadableError):
    """The header has more elements and items than fit into memory."""

    code = "HEADER_TOO_LARGE"

    def __init__(self) -> None:
        super().__init__("The header has millions of elements; export the object without them.")


class NotPart10Error(UnreadableError):
    """There is no File Meta Information (PS3.10 section 7.1)."""

    code = "NOT_PART10"
