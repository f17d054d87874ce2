"""Errors of the receive path.

::

    ReceiveError              an object is refused; carries the DIMSE status that the sender gets
    ├── SpoolError            the spool can't take or give bytes
    │   └── SpoolFullError    less free space than the reserve
    ├── CommitError           the ledger did not commit
    ├── MissingUidError       the request names no usable SOP Instance
    ├── MissingDataSetError   the request brings no data set
    ├── WrongContextError     the SOP class is not the one negotiated
    ├── NotBrokenOffError     an upload can't go on: it is under way or stored
    └── ListenerError         the listener can't start
    NotReleasedError          a held study is not released
    StudyHeldError            nobody has decided yet whose study it is
    StudyExpiredError         its images were removed by the rules of retention
    TlsError                  certificate, key or authorities can't be used

The sentence also goes to the sender as Error Comment (0000,0902), an LO of at most 64 characters.
"""

from __future__ import annotations

from typing import ClassVar

from ledger.errors import PacsightError


class ReceiveError(PacsightError):
    """Base of everything that can go wrong while objects come in."""

    code: ClassVar[str] = "RECEIVE_FAILED"
    status: ClassVar[int] = 0xC000
    """Error: Cannot understand (PS3.4 table B.2-1)"""


class SpoolError(ReceiveError):
    """Bytes can't be written to, synced in or read from the spool."""

    code = "SPOOL_FAILED"
    retryable = True
    status = 0xA700  # Refused: Out of Resources, PS3.4 table B.2-1


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


class MissingDataSetError(ReceiveError):
    """The C-STORE-RQ says that no data set follows (PS3.7 section 9.3.1.1)."""

    code = "DATA_SET_MISSING"


class WrongContextError(ReceiveError):
    """The class is no storage class or not the abstract syntax of its presentation context."""

    code = "SOP_CLASS_NOT_NEGOTIATED"
    status = 0x0122  # Refused: SOP Class not supported, PS3.7 section 9.1.1.1.9


class NotBrokenOffError(ReceiveError):
    """What is to go on was not broken off: somebody is at it, or it is stored already."""

    code = "UPLOAD_NOT_BROKEN_OFF"


class ListenerError(ReceiveError):
    """The listener can't listen."""

    code = "LISTENER_FAILED"


class NotReleasedError(PacsightError):
    """A held study can't be released like this."""

    code = "STUDY_NOT_RELEASED"


class StudyHeldError(PacsightError):
    """Nothing may be inferred from the study, or sent about it, until somebody decides."""

    code = "STUDY_HELD"

    def __init__(self) -> None:
        super().__init__("The study is held; see 'pacsight studies show', then release it.")


class StudyExpiredError(PacsightError):
    """The images are gone, by the rules of retention."""

    code = "STUDY_EXPIRED"

    def __init__(self) -> None:
        super().__init__("Its images were removed by retention; send the study again, then replay.")


class TlsError(PacsightError):
    """A certificate, a key or the certificates of authorities can't be used."""

    code = "TLS_FILES_UNUSABLE"
