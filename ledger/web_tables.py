"""Tables of the web app: people, what they uploaded, what they said about results."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.tables import BIG, UID, Base

DIGEST = String(64)


class UserAccount(Base):
    """A person who may sign in."""

    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    login: Mapped[str] = mapped_column(String(64), unique=True)
    """in small letters"""
    name: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    """staff, radiologist or administrator"""
    password_hash: Mapped[str | None] = mapped_column(String(256))
    """argon2id; null: signs in at the identity provider only"""
    oidc_subject: Mapped[str | None] = mapped_column(String(320), unique=True)
    """issuer and subject at the identity provider"""
    is_active: Mapped[bool]
    created_at: Mapped[float]
    last_login_at: Mapped[float | None]


class LoginSession(Base):
    """A browser that is signed in; the cookie holds the token, here is its digest."""

    __tablename__ = "login_session"
    id: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float]
    seen_at: Mapped[float]
    expires_at: Mapped[float] = mapped_column(index=True)


class LoginFailure(Base):
    """Wrong passwords in a row for a login, whether a user has it or not."""

    __tablename__ = "login_failure"
    id: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    """sha256 of the login"""
    count: Mapped[int]
    last_at: Mapped[float] = mapped_column(index=True)
    locked_until: Mapped[float]


class ApiToken(Base):
    """A key for programs: it can do what its scopes say and its owner may."""

    __tablename__ = "api_token"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(DIGEST, unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[float]
    expires_at: Mapped[float]
    last_used_at: Mapped[float | None]
    revoked_at: Mapped[float | None]


class Upload(Base):
    """Files that a user handed in together, and what is to be done with them."""

    __tablename__ = "upload"
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """random"""
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    association_id: Mapped[int | None] = mapped_column(ForeignKey("association.id"), unique=True)
    """under which its objects were received; null until they are"""
    model_id: Mapped[str | None] = mapped_column(String(64))
    """the only model to ask; null: all that apply"""
    is_delivered: Mapped[bool]
    """whether results go to the destinations"""
    created_at: Mapped[float] = mapped_column(index=True)
    stored_at: Mapped[float | None]


class UploadFile(Base):
    """One file of an upload: what it is, or why it is not taken."""

    __tablename__ = "upload_file"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("upload.id"), index=True)
    name: Mapped[str] = mapped_column(Text)
    """as the browser said; shown, never used as a path"""
    size: Mapped[int] = mapped_column(BIG)
    kind: Mapped[str] = mapped_column(String(16))
    """dicom, picture, nifti or zip; empty if refused"""
    code: Mapped[str | None] = mapped_column(String(48))
    message: Mapped[str | None] = mapped_column(Text)
    study_instance_uid: Mapped[str | None] = mapped_column(UID, index=True)


class Review(Base):
    """What a radiologist says about a model's answer. Append-only; the newest verdict counts."""

    __tablename__ = "review"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    decision_id: Mapped[int] = mapped_column(ForeignKey("routing_decision.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    verdict: Mapped[str] = mapped_column(String(16))
    """accepted, rejected or comment"""
    comment: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]


class ModelSwitch(Base):
    """Whether an installed model is used; models without a row are."""

    __tablename__ = "model_switch"
    model_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    is_on: Mapped[bool]
    changed_at: Mapped[float]


class WorklistRow(Base):
    """A study as the worklist shows it: what lies in many tables, in one row."""

    __tablename__ = "worklist_row"
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True)
    received_at: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))
    instances: Mapped[int]
    modalities: Mapped[list[str]]
    models: Mapped[list[str]]
    findings: Mapped[list[str]]
    """labels at or above their thresholds, in the newest revision"""


class StudyTag(Base):
    """Something to find a study by; in an index by time, so that the newest come first."""

    __tablename__ = "study_tag"
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    """state, modality, model, finding, user, or word (of name, id, accession)"""
    value: Mapped[str] = mapped_column(
        String(64).with_variant(String(64, collation="C"), "postgresql"), primary_key=True
    )
    received_at: Mapped[float] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True)


Index("ix_worklist_row_newest", WorklistRow.received_at, WorklistRow.study_id)
Index("ix_study_tag_of_study", StudyTag.study_id, StudyTag.kind, StudyTag.value)
Index("ix_upload_by_user", Upload.user_id, Upload.created_at)
