"""The tables of the ledger (SQLAlchemy). The same on SQLite and PostgreSQL.

Times are seconds since 1970-01-01 UTC, columns ending in ``_at``. A row is written once by the
stage that owns it and afterwards only moves forward in ``state``. Attributes taken from headers are
unbounded text: broken files overrun the lengths of PS3.5.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite autoincrements INTEGER keys only
UID = String(64)  # PS3.5 section 9.1
AE_TITLE = String(16)  # PS3.5 section 6.2


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[list[str]]: JSON,
    }


class Association(Base):
    """A DICOM association that stored at least one object."""

    __tablename__ = "association"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    listener: Mapped[str] = mapped_column(String(64), index=True)
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    called_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    peer_address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[float]
    closed_at: Mapped[float | None]
    outcome: Mapped[str | None] = mapped_column(String(16))
    """released, aborted or lost; null while open"""


class ReceivedObject(Base):
    """An acknowledged object: a slice of a spool segment. Committed before C-STORE Success.

    Senders wait for the commit, so no index is kept that no query needs: each is a page more to
    write and sync.
    """

    __tablename__ = "received_object"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    association_id: Mapped[int] = mapped_column(ForeignKey("association.id"))
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    segment: Mapped[str] = mapped_column(String(128))
    """file of a listener's spool, or key of a pack in the object store"""
    offset: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[float]
    priority: Mapped[int | None]
    """of the C-STORE request: 0 medium, 1 high, 2 low (PS3.7 section 9.3.1.1)"""
    state: Mapped[str] = mapped_column(String(16), default="received")
    reason_code: Mapped[str | None] = mapped_column(String(48))
    reason: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64))
    """of the data set as received, without file meta: computed when the header is read"""


Index(
    "ix_received_object_unread",
    ReceivedObject.id,
    sqlite_where=ReceivedObject.state == "received",
    postgresql_where=ReceivedObject.state == "received",
)
KEPT = text("state IN ('indexed', 'quarantined')")
"""Literal, because SQLite uses a partial index only where its condition is in the query."""
Index(
    "ix_received_object_kept",
    ReceivedObject.segment,
    ReceivedObject.size,
    sqlite_where=KEPT,
    postgresql_where=KEPT,
)
Index(
    "ix_received_object_quarantined",
    ReceivedObject.id,
    sqlite_where=ReceivedObject.state == "quarantined",
    postgresql_where=ReceivedObject.state == "quarantined",
)


class Study(Base):
    """A study and whose it is."""

    __tablename__ = "study"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    patient_id: Mapped[str] = mapped_column(Text, index=True)
    patient_name: Mapped[str] = mapped_column(Text)
    patient_birth_date: Mapped[str] = mapped_column(Text)
    patient_sex: Mapped[str] = mapped_column(Text)
    accession_number: Mapped[str] = mapped_column(Text, index=True)
    study_date: Mapped[str] = mapped_column(Text)
    study_time: Mapped[str] = mapped_column(Text)
    study_description: Mapped[str] = mapped_column(Text)
    study_id: Mapped[str] = mapped_column(Text, default="", server_default="")
    """(0020,0010), what people call it"""
    referring_physician_name: Mapped[str] = mapped_column(Text, default="", server_default="")
    first_received_at: Mapped[float]
    last_received_at: Mapped[float] = mapped_column(index=True)
    open_since: Mapped[float | None] = mapped_column(index=True)
    """arrival of the first instance that no revision holds yet; null when there is none"""
    changed_at: Mapped[float | None] = mapped_column(index=True)
    """when something happened that the worklist doesn't show yet; null when it shows all"""
    held_code: Mapped[str | None] = mapped_column(String(48))
    held_reason: Mapped[str | None] = mapped_column(Text)
    """why nothing is inferred or sent until somebody decides; null when nothing holds it"""
    decided_patient: Mapped[dict[str, Any] | None]
    """whose study it is whatever its headers say: attributes of :class:`PatientClaim`"""
    decided_by: Mapped[str | None] = mapped_column(String(64))
    """the destination that was followed, or ``operator``"""
    expired_at: Mapped[float | None]
    """when its images and files of results were given up to retention; null: they are here"""
    remove_results_until: Mapped[float | None]
    """files of the results of revisions made until then are to be removed; null: none"""


Index(
    "ix_study_present",
    Study.last_received_at,
    sqlite_where=Study.expired_at.is_(None),
    postgresql_where=Study.expired_at.is_(None),
)
Index(
    "ix_study_to_remove",
    Study.remove_results_until,
    sqlite_where=Study.remove_results_until.is_not(None),
    postgresql_where=Study.remove_results_until.is_not(None),
)


Index("ix_study_by_date", Study.study_date, Study.id)
Index(
    "ix_study_held",
    Study.id,
    sqlite_where=Study.held_code.is_not(None),
    postgresql_where=Study.held_code.is_not(None),
)


class PatientClaim(Base):
    """Whose a study is, as some of its headers say; spellings that mean the same share a row."""

    __tablename__ = "patient_claim"
    __table_args__ = (UniqueConstraint("study_id", "number"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    number: Mapped[int]
    """from 1, in the order they came"""
    patient_id: Mapped[str] = mapped_column(Text)
    patient_name: Mapped[str] = mapped_column(Text)
    patient_birth_date: Mapped[str] = mapped_column(Text)
    is_accepted: Mapped[bool | None]
    """the first one is; others by a decision, or not at all; null while nobody has decided"""
    first_received_at: Mapped[float]


class Series(Base):
    """A series of a study."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    series_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    modality: Mapped[str] = mapped_column(Text)
    body_part_examined: Mapped[str] = mapped_column(Text)
    series_description: Mapped[str] = mapped_column(Text)
    series_number: Mapped[int]
    performed_procedure_step_start_date: Mapped[str] = mapped_column(
        Text, default="", server_default=""
    )
    performed_procedure_step_start_time: Mapped[str] = mapped_column(
        Text, default="", server_default=""
    )
    scheduled_procedure_step_id: Mapped[str] = mapped_column(Text, default="", server_default="")
    requested_procedure_id: Mapped[str] = mapped_column(Text, default="", server_default="")


class Revision(Base):
    """A study declared complete: the instances analysed together, and why then."""

    __tablename__ = "revision"
    __table_args__ = (UniqueConstraint("study_id", "number"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    number: Mapped[int]
    """from 1"""
    reason_code: Mapped[str] = mapped_column(String(48))
    reason: Mapped[str] = mapped_column(Text)
    confidence: Mapped[str | None] = mapped_column(String(16))
    """proven, likely or doubtful"""
    is_stat: Mapped[bool] = mapped_column(server_default=false())
    """goes before what is routine"""
    superseded_by: Mapped[int | None]
    """number of the newest revision, when this is an older one"""
    created_at: Mapped[float]
    started_at: Mapped[float | None] = mapped_column(index=True)
    """when its route job was handed to the engine"""
    trace_id: Mapped[str | None] = mapped_column(String(32))
    """of everything that is done about it, on whatever machine (W3C Trace Context)"""


class Instance(Base):
    """One version of a SOP Instance; other bytes under the same UID are a new version."""

    __tablename__ = "instance"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "version"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    received_object_id: Mapped[int] = mapped_column(ForeignKey("received_object.id"), unique=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    version: Mapped[int]
    """from 1; the highest is current"""
    is_current: Mapped[bool]
    sha256: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]]
    """:class:`ledger.domain.InstanceFacts`"""
    patient_claim: Mapped[int | None]
    """number of the claim that its header makes"""
    revision_id: Mapped[int | None] = mapped_column(ForeignKey("revision.id"), index=True)
    """the first revision that holds it"""


class Announcement(Base):
    """What a performed procedure step (MPPS) or an availability notification (IAN) has said."""

    __tablename__ = "announcement"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    """mpps or ian"""
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    study_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    status: Mapped[str] = mapped_column(String(16))
    """IN PROGRESS, COMPLETED or DISCONTINUED (PS3.3 section C.4.14); of an IAN always COMPLETED"""
    sop_instance_uids: Mapped[list[str]]
    """the instances that it lists"""
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    received_at: Mapped[float]


class Decision(Base):
    """One model's routing decision for one revision; refusals included."""

    __tablename__ = "routing_decision"
    __table_args__ = (UniqueConstraint("revision_id", "model_id"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id"))
    model_id: Mapped[str] = mapped_column(String(64))
    model_version: Mapped[str] = mapped_column(String(32))
    model_digest: Mapped[str] = mapped_column(String(64))
    is_accepted: Mapped[bool]
    code: Mapped[str | None] = mapped_column(String(48))
    message: Mapped[str | None] = mapped_column(Text)
    sop_instance_uids: Mapped[list[str]]
    created_at: Mapped[float]


class Job(Base):
    """One stage of work; ``id`` is the durable engine's workflow id and the idempotency key."""

    __tablename__ = "job"
    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id"), index=True)
    stage: Mapped[str] = mapped_column(String(16))
    """route, predict, encode or deliver"""
    subject: Mapped[str] = mapped_column(String(128))
    """the model or the destination"""
    state: Mapped[str] = mapped_column(String(16), index=True)
    error_code: Mapped[str | None] = mapped_column(String(48))
    error: Mapped[str | None] = mapped_column(Text)
    starts: Mapped[int] = mapped_column(default=0, server_default="0")
    """how often in a row it was begun and its worker died of it or beside it"""
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class PredictionRow(Base):
    """What a model said about one image; the heatmap lies in ``artifact``."""

    __tablename__ = "prediction"
    __table_args__ = (UniqueConstraint("decision_id", "sop_instance_uid"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("routing_decision.id"))
    sop_instance_uid: Mapped[str] = mapped_column(UID)
    summary: Mapped[dict[str, Any]]
    artifact: Mapped[str] = mapped_column(String(256))
    """file below the data folder"""
    seconds: Mapped[float]
    created_at: Mapped[float]


class ResultObjectRow(Base):
    """A DICOM result, written and checked, as the bytes every destination gets."""

    __tablename__ = "result_object"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("routing_decision.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """sr, seg, sc or pdf"""
    variant: Mapped[str] = mapped_column(String(48), default="")
    """what sets its content apart from the standard one, see ``dicom_out.profile``"""
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sop_instance_uid: Mapped[str] = mapped_column(UID, unique=True)
    series_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    path: Mapped[str] = mapped_column(String(256))
    """file below the data folder"""
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict[str, Any] | None]
    """:class:`ledger.domain.InstanceFacts`; null: written before they were kept"""
    created_at: Mapped[float]


OF_FEW_STUDIES = text("kind NOT IN ('sr', 'sc')")
"""What not every analysed study has. Literal for the same reason as `KEPT`."""
Index(
    "ix_result_object_of_few",
    ResultObjectRow.kind,
    sqlite_where=OF_FEW_STUDIES,
    postgresql_where=OF_FEW_STUDIES,
)


class ResultEncoding(Base):
    """The same result object in a compressed transfer syntax, without loss."""

    __tablename__ = "result_encoding"
    __table_args__ = (UniqueConstraint("result_object_id", "transfer_syntax_uid"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    result_object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"))
    transfer_syntax_uid: Mapped[str] = mapped_column(UID)
    path: Mapped[str] = mapped_column(String(256))
    """file below the data folder"""
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class Delivery(Base):
    """The outbox: one result object at one destination."""

    __tablename__ = "delivery"
    __table_args__ = (UniqueConstraint("result_object_id", "destination"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    result_object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"))
    encoding_id: Mapped[int | None] = mapped_column(ForeignKey("result_encoding.id"))
    """the bytes that go out; null: the result object's own, as when the peer took no others"""
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    attempts: Mapped[int]
    last_status: Mapped[int | None]
    """DIMSE status of the last C-STORE response (PS3.4 Annex B.2.3)"""
    last_error: Mapped[str | None] = mapped_column(Text)
    queued_at: Mapped[float]
    """give-up time counts from here; a retry by hand sets it anew"""
    next_attempt_at: Mapped[float | None]
    delivered_at: Mapped[float | None]
    """when the destination answered Success"""
    proof: Mapped[str | None] = mapped_column(String(16))
    """what tells that it really is there, see :class:`ledger.domain.Proof`; null: not proven"""
    proof_due_at: Mapped[float | None]
    """when the destination is asked next; null: nothing is to be asked"""
    proof_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    transaction_uid: Mapped[str | None] = mapped_column(UID)
    """of the storage commitment that was asked for last (PS3.4 section J.3)"""
    failure_reason: Mapped[int | None]
    """why the destination does not commit (PS3.3 section C.14); null: it has not said so"""


Index(
    "ix_delivery_unproven",
    Delivery.proof_due_at,
    sqlite_where=Delivery.proof_due_at.is_not(None),
    postgresql_where=Delivery.proof_due_at.is_not(None),
)
Index(
    "ix_delivery_transaction",
    Delivery.transaction_uid,
    sqlite_where=Delivery.transaction_uid.is_not(None),
    postgresql_where=Delivery.transaction_uid.is_not(None),
)


class CommitmentRequest(Base):
    """Somebody asks whether we hold what was sent (storage commitment, PS3.4 Annex J)."""

    __tablename__ = "commitment_request"
    __table_args__ = (UniqueConstraint("calling_ae_title", "transaction_uid"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(UID)
    calling_ae_title: Mapped[str] = mapped_column(AE_TITLE)
    peer_address: Mapped[str] = mapped_column(String(64))
    instances: Mapped[list[list[str]]]
    """SOP Class and Instance UID of each"""
    received_at: Mapped[float]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[float | None] = mapped_column(index=True)
    """when the answer is sent; null: it was, or nobody takes it"""
    reported_at: Mapped[float | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class Worker(Base):
    """A worker process that lives, or died not long ago."""

    __tablename__ = "worker"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    """the durable engine's executor id, new at each start"""
    name: Mapped[str] = mapped_column(String(64))
    queues: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(String(32))
    spool: Mapped[str] = mapped_column(String(8))
    """identity of the spool in its data folder"""
    started_at: Mapped[float]
    seen_at: Mapped[float]
    """last sign of life, by the clock of the database"""


class Event(Base):
    """Who did what to what, when. Append-only: the database refuses changes and deletions.

    Writers leave `number` and `digest` null; :mod:`ledger.seal` fills them once, in order.
    """

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    at: Mapped[float] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(48))
    subject: Mapped[str] = mapped_column(String(128), index=True)
    detail: Mapped[dict[str, Any]]
    number: Mapped[int | None] = mapped_column(BigInteger)
    """place in the chain, from 1; null until it is sealed"""
    digest: Mapped[str | None] = mapped_column(String(64))
    """of this row and of the digest before it"""


Index("ix_event_number", Event.number, unique=True)
Index(
    "ix_event_unsealed",
    Event.id,
    sqlite_where=Event.number.is_(None),
    postgresql_where=Event.number.is_(None),
)


class EventArchive(Base):
    """Events that were moved into a file; the chain goes on from its last digest."""

    __tablename__ = "event_archive"
    last_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    first_number: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    """of the event `last_number`"""
    file: Mapped[str] = mapped_column(String(128))
    sha256: Mapped[str] = mapped_column(String(64))
    """of the file"""
    archived_at: Mapped[float]


class AuditForwarding(Base):
    """How far the event log was sent to a collector of audit messages, and by whom."""

    __tablename__ = "audit_forwarding"
    collector: Mapped[str] = mapped_column(String(128), primary_key=True)
    """host:port"""
    sent_number: Mapped[int] = mapped_column(BigInteger)
    holder: Mapped[str] = mapped_column(String(64))
    """who sends, so that the order is kept"""
    held_until: Mapped[float]
    """by the clock of the database"""
