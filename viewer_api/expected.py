"""Studies that were handed in and don't show: still being read, or put aside."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.domain import ObjectState
from ledger.tables import ReceivedObject
from ledger.web_tables import Upload, UploadFile

NEIGHBOURS = 50_000
"""Objects of one upload lie together in the ledger, which has no index of their associations."""


@dataclass(frozen=True, slots=True)
class PutAside:
    """Why an upload can't be analysed, though it was taken: the code and the sentence."""

    code: str
    message: str


def put_aside(session: Session, association_id: int | None) -> PutAside | None:
    """Return why objects of an upload are in quarantine; None while some are still to be read."""
    if association_id is None:
        return None
    mine = ReceivedObject.association_id == association_id
    unread = select(ReceivedObject.id).where(mine, ReceivedObject.state == ObjectState.RECEIVED)
    if session.scalar(unread.limit(1)) is not None:
        return None
    newest = select(ReceivedObject.id).where(mine).order_by(ReceivedObject.id.desc()).limit(1)
    last = session.scalar(newest)
    if last is None:
        return None
    row = session.execute(
        select(ReceivedObject.reason_code, ReceivedObject.reason)
        .where(
            mine,
            ReceivedObject.state == ObjectState.QUARANTINED,
            ReceivedObject.id.between(last - NEIGHBOURS, last),
        )
        .limit(1)
    ).one_or_none()
    return None if row is None else PutAside(row[0] or "", row[1] or "")


def association_of(session: Session, study_instance_uid: str) -> int | None:
    """Return the upload that brought a study, as an association; None if none did."""
    return session.scalar(
        select(Upload.association_id)
        .join(UploadFile, UploadFile.upload_id == Upload.id)
        .where(UploadFile.study_instance_uid == study_instance_uid)
        .order_by(UploadFile.id.desc())
        .limit(1)
    )
