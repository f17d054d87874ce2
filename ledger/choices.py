"""What people have chosen about the analysis: models, and whether results are delivered."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.tables import Instance, ReceivedObject, Revision, Series
from ledger.web_tables import ModelSwitch, Upload


def upload_of(session: Session, revision_id: int) -> Upload | None:
    """Return the upload that brought the newest instance of a revision's study, if one did.

    What came later by an association is the sender's to decide, not the uploader's.
    """
    revision = session.get_one(Revision, revision_id)
    newest = session.scalar(
        select(ReceivedObject.association_id)
        .join(Instance, Instance.received_object_id == ReceivedObject.id)
        .join(Series, Series.id == Instance.series_id)
        .join(Revision, Revision.id == Instance.revision_id)
        .where(Series.study_id == revision.study_id, Revision.number <= revision.number)
        .order_by(ReceivedObject.id.desc())
        .limit(1)
    )
    return session.scalar(select(Upload).where(Upload.association_id == newest))


def switched_off(session: Session) -> frozenset[str]:
    """Return the ids of models that an administrator has switched off."""
    return frozenset(
        session.scalars(select(ModelSwitch.model_id).where(ModelSwitch.is_on.is_(False)))
    )
