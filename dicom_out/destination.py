"""Where results go, how often delivery is tried, and what a peer's answer means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from dicom_out.profile import STANDARD
from scp.config import User
from scp.tls import ClientTls

AeTitleText = Annotated[
    str,
    # PS3.5 table 6.2-1, VR AE: 16 characters of the default repertoire without backslash
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$"),
]


class AskFor(StrEnum):
    """How a destination is asked whether it really holds what it has answered Success for."""

    AUTO = "auto"
    """storage commitment, else C-FIND, else not at all: whatever it offers"""
    COMMITMENT = "commitment"
    FIND = "find"
    NONE = "none"


class Destination(BaseModel):
    """A Storage SCP that takes objects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=64, pattern=r"^[\w.-]+$")
    """how settings, the ledger and people call it"""
    ae_title: AeTitleText
    """called AE title"""
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    calling_ae_title: AeTitleText | None = None
    """how to introduce ourselves there; default: the listener's own AE title"""
    profile: str = STANDARD.name
    """which objects it gets, and how: a name in `dicom_out.profile.PROFILES` or in the settings"""
    timeout_s: float = Field(default=30.0, gt=0)
    """patience for the connection, the association and each answer, in seconds"""
    checks_patient: bool = True
    """ask it before sending whose study it is there now (C-FIND), where it can be asked"""
    proof: AskFor = AskFor.AUTO
    """how it is asked afterwards whether it holds the results"""
    tls: ClientTls | None = None
    """call it through TLS"""
    user: User | None = None
    """who we are there, where it asks for a user"""

    @model_validator(mode="after")
    def _password_is_not_sent_in_the_clear(self) -> Self:
        if self.user is not None and self.tls is None:
            raise ValueError("user needs tls; without it the password crosses the network readable")
        return self


class DeliveryConfig(BaseModel):
    """How long delivery goes on trying. The delay doubles from attempt to attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_retry_s: float = Field(default=10.0, gt=0)
    """delay after the first failed attempt, in seconds"""
    longest_retry_s: float = Field(default=1800.0, gt=0)
    """the delay grows no further than this, in seconds"""
    give_up_after_s: float = Field(default=3 * 86400.0, ge=0)
    """age at which an object becomes a dead letter, in seconds"""
    proof_after_s: float = Field(default=10.0, ge=0)
    """how long after Success a destination is asked whether it holds the object, in seconds"""
    commitment_timeout_s: float = Field(default=3600.0, gt=0)
    """patience for the report of a storage commitment, in seconds"""


def next_delay_s(attempt: int, rules: DeliveryConfig) -> float:
    """Return how long to wait after failed attempt number ``attempt`` (from 1), in seconds."""
    doublings = min(max(attempt, 1) - 1, 60)
    return min(rules.first_retry_s * 2.0**doublings, rules.longest_retry_s)


class Outcome(StrEnum):
    """What became of one object at one destination."""

    ACCEPTED = "accepted"
    WARNING = "warning"
    """stored, with a remark of the peer (coercion, discarded elements)"""
    REFUSED = "refused"
    """the peer answered no"""
    FAILED = "failed"
    """no answer: not reached, not agreed, cut off"""
    SKIPPED = "skipped"
    """never offered, because it is nothing that can be sent"""


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """The answer for one object: what happened, and whether trying again can help."""

    sop_instance_uid: str
    outcome: Outcome
    code: str
    message: str
    status: int | None = None
    """DIMSE status of the response (PS3.4 table B.2-1, PS3.7 Annex C), if one came"""
    is_retryable: bool = False
    path: Path | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has the object. A warning is a delivery."""
        return self.outcome in (Outcome.ACCEPTED, Outcome.WARNING)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a status or a lost connection means, before it is said of one object."""

    outcome: Outcome
    code: str
    message: str
    is_retryable: bool = False


DUPLICATE_SOP_INSTANCE = 0x0111
"""PS3.7 section C.5.5. The peer holds it already, which is what delivery is for."""
_WARNINGS = (0x0001, 0x0107, 0x0116)  # PS3.7 Annex C.3 and C.4
_TRANSIENT = {
    0x0110: "The destination failed to process the object; it is tried again.",
    0x0124: "The destination does not authorise us; allow our AE title there.",
    0x0210: "The destination took the message for a repeated one; it is tried again.",
    0x0213: "The destination is short of resources; it is tried again.",
}  # PS3.7 section C.5


def judge_status(status: int) -> Verdict:
    """Say what a C-STORE response status means (PS3.4 table B.2-1, PS3.7 Annex C)."""
    if status == 0x0000:
        return Verdict(Outcome.ACCEPTED, "STORED", "Stored.")
    if status == DUPLICATE_SOP_INSTANCE:
        return Verdict(Outcome.WARNING, "STORED_BEFORE", "The destination holds it already.")
    if 0xB000 <= status <= 0xBFFF or status in _WARNINGS:
        return Verdict(Outcome.WARNING, "STORED_WITH_WARNING", "Stored; the destination remarks.")
    if 0xA700 <= status <= 0xA7FF:
        text = "The destination is out of resources; it is tried again."
        return Verdict(Outcome.REFUSED, "OUT_OF_RESOURCES", text, is_retryable=True)
    if status in _TRANSIENT:
        return Verdict(Outcome.REFUSED, "TRY_LATER", _TRANSIENT[status], is_retryable=True)
    if 0xA800 <= status <= 0xA9FF or status == 0x0122:
        text = "The destination does not take this kind of object; check what it supports."
        return Verdict(Outcome.REFUSED, "NOT_SUPPORTED", text)
    text = f"The destination refused the object with status 0x{status:04X}; see its log."
    return Verdict(Outcome.REFUSED, "REFUSED", text)


NOT_REACHED = Verdict(
    Outcome.FAILED,
    "DESTINATION_UNREACHABLE",
    "Nothing answers at the destination's host and port; check both and the network.",
    is_retryable=True,
)
NO_ANSWER = Verdict(
    Outcome.FAILED,
    "ASSOCIATION_ABORTED",
    "The destination ended the connection before an association stood; see its log.",
    is_retryable=True,
)
CUT_OFF = Verdict(
    Outcome.FAILED,
    "CONNECTION_LOST",
    "The connection broke or no answer came in time; the object is sent again.",
    is_retryable=True,
)


def tls_failed(reason: str) -> Verdict:
    """Say that one side doesn't take the other's certificate or way of encryption."""
    text = f"TLS with the destination fails ({reason}); check certificates and settings there."
    return Verdict(Outcome.FAILED, "TLS_FAILED", text, is_retryable=True)


NO_CONTEXT = Verdict(
    Outcome.REFUSED,
    "CONTEXT_NOT_ACCEPTED",
    "The destination takes no such SOP class and transfer syntax; check what it supports.",
)
UNREADABLE = Verdict(Outcome.SKIPPED, "FILE_UNREADABLE", "The file can't be read; check it.")
NOT_DICOM = Verdict(
    Outcome.SKIPPED, "NOT_DICOM", "The file is no DICOM file (no Part 10 header); left out."
)
NOT_STORABLE = Verdict(
    Outcome.SKIPPED, "NOT_STORABLE", "The file is a directory of files (DICOMDIR); left out."
)


def rejection(result: int, reason: str) -> Verdict:
    """Say what an A-ASSOCIATE-RJ means; ``result`` 1 is permanent, 2 transient (PS3.8 9.3.4)."""
    kind = "for now" if result == 2 else "until its settings change"
    text = f"The destination rejects the association {kind}: {reason}; check AE titles there."
    return Verdict(Outcome.FAILED, "ASSOCIATION_REJECTED", text, is_retryable=True)
