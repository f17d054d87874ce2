"""Uploaded pictures and volumes that became DICOM here: no PACS has what their results refer to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.model_result import ResultObject
from ledger.choices import upload_of
from ledger.database import reading
from ledger.product import PRODUCT
from ledger.tables import Instance, PredictionRow, ReceivedObject, ResultObjectRow, Series
from pacsight.bundles import UNCOMPRESSED, Addressed
from pacsight.stages.context import StageContext, instances_of, open_stored

SOURCE = "source"
"""Kind of a result object that is the image itself."""


def made_here(
    context: StageContext, revision_id: int, predictions: Sequence[PredictionRow]
) -> list[Addressed]:
    """Return the images of `predictions` as objects to deliver, if they were made of an upload."""
    wanted = {uid for row in predictions for uid in row.summary["sop_instance_uids"]}
    with reading(context.database) as session:
        if upload_of(session, revision_id) is None:
            return []
        rows = [
            (
                instance,
                session.get_one(ReceivedObject, instance.received_object_id),
                session.get_one(Series, instance.series_id).series_instance_uid,
            )
            for instance in instances_of(session, revision_id)
            if instance.sop_instance_uid in wanted and instance.facts["manufacturer"] == PRODUCT
        ]
    everybody = {one.name: UNCOMPRESSED for one in context.settings.destinations}
    return [
        Addressed(_object(context, instance, stored, series), destinations=dict(everybody))
        for instance, stored, series in rows
    ]


def _object(
    context: StageContext, instance: Instance, stored: ReceivedObject, series_instance_uid: str
) -> ResultObject:
    with open_stored(context, stored) as file:
        data = file.read()
    return ResultObject(
        kind=SOURCE,
        sop_class_uid=stored.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        series_instance_uid=series_instance_uid,
        data=data,
    )


def written_before(session: Session, objects: Sequence[Addressed]) -> set[str]:
    """Return the UIDs that the results of another model brought along already."""
    uids = [one.item.sop_instance_uid for one in objects if one.item.kind == SOURCE]
    query = select(ResultObjectRow.sop_instance_uid).where(
        ResultObjectRow.sop_instance_uid.in_(uids)
    )
    return set(session.scalars(query)) if uids else set()
