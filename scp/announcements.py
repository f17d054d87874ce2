"""MPPS and Instance Availability Notification SCP: who says what belongs to a study.

Modality Performed Procedure Step (PS3.4 Annex F) and Instance Availability Notification (PS3.4
Annex R). Both are only listened to: they tell completeness what to expect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from pydicom import Dataset
from pynetdicom import build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError

from ledger.database import transaction
from ledger.errors import LedgerError
from ledger.facts import read_text_value
from ledger.tables import Announcement
from scp.evidence import IN_PROGRESS
from scp.readable import PROCESSING_FAILURE, readable
from scp.store_message import is_uid

LOGGER = logging.getLogger(__name__)

COMPLETED, DISCONTINUED = "COMPLETED", "DISCONTINUED"  # PS3.3 section C.4.14
MAX_LISTED = 100_000
"""instances in one list; a longer one proves nothing and is left out"""

_LISTS = (
    "ReferencedImageSequence",
    "ReferencedNonImageCompositeSOPInstanceSequence",
    "ReferencedSOPSequence",
)
"""of a step's series, PS3.3 table C.4-15, and of a notification's, table C.4-23"""

# N-CREATE and N-SET statuses, PS3.7 sections 10.1.5.1.6 and 10.1.3.1.9
SUCCESS = 0x0000
INVALID_ATTRIBUTE_VALUE = 0x0106
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
MISSING_ATTRIBUTE = 0x0120

Answer: TypeAlias = tuple[int, Dataset | None]


class Announcements:
    """Writes what is announced into the ledger; each method answers one request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def contexts(self) -> list[PresentationContext]:
        """The services, for the listener."""
        return [
            build_context(ModalityPerformedProcedureStep),
            build_context(InstanceAvailabilityNotification),
        ]

    @property
    def handlers(self) -> list[tuple[evt.EventType, Any]]:
        """Their handlers, for the listener."""
        return [
            (evt.EVT_N_CREATE, readable(self._create)),
            (evt.EVT_N_SET, readable(self._set)),
        ]

    def _create(self, event: Any) -> Answer:
        """Take a new step or notification."""
        ds, uid = event.attribute_list, str(event.request.AffectedSOPInstanceUID or "")
        is_step = event.request.AffectedSOPClassUID == ModalityPerformedProcedureStep
        if not is_uid(uid):
            return MISSING_ATTRIBUTE, None
        study = _study_of_step(ds) if is_step else read_text_value(ds, "StudyInstanceUID")
        status = read_text_value(ds, "PerformedProcedureStepStatus") if is_step else COMPLETED
        if not is_uid(study):
            return MISSING_ATTRIBUTE, None
        if is_step and status != IN_PROGRESS:
            return INVALID_ATTRIBUTE_VALUE, None  # PS3.4 section F.7.2.1.2
        row = Announcement(
            kind="mpps" if is_step else "ian",
            sop_instance_uid=uid,
            study_instance_uid=study,
            status=status,
            sop_instance_uids=[] if is_step else _listed(ds, "ReferencedSeriesSequence"),
            calling_ae_title=event.assoc.record.calling_ae_title,
            received_at=time.time(),
        )
        try:
            with transaction(self._engine) as session:
                session.add(row)
        except IntegrityError:
            return DUPLICATE_SOP_INSTANCE, None
        except LedgerError as error:
            LOGGER.warning("%s not noted: %s", row.kind, error.code)
            return PROCESSING_FAILURE, None
        return SUCCESS, ds

    def _set(self, event: Any) -> Answer:
        """Take a change of a step."""
        ds, uid = event.modification_list, str(event.request.RequestedSOPInstanceUID or "")
        status = read_text_value(ds, "PerformedProcedureStepStatus")
        if status not in ("", IN_PROGRESS, COMPLETED, DISCONTINUED):
            return INVALID_ATTRIBUTE_VALUE, None
        try:
            with transaction(self._engine) as session:
                step = session.scalar(
                    select(Announcement)
                    .where(Announcement.sop_instance_uid == uid, Announcement.kind == "mpps")
                    .with_for_update()
                )
                if step is None:
                    return NO_SUCH_SOP_INSTANCE, None
                if step.status != IN_PROGRESS:  # it has ended, PS3.4 table F.7.2-2
                    return PROCESSING_FAILURE, None
                step.status = status or step.status
                if "PerformedSeriesSequence" in ds:
                    step.sop_instance_uids = _listed(ds, "PerformedSeriesSequence")
        except LedgerError as error:
            LOGGER.warning("mpps not noted: %s", error.code)
            return PROCESSING_FAILURE, None
        return SUCCESS, ds


def _study_of_step(ds: Dataset) -> str:
    """Return the study of a step's first scheduled step that names one."""
    items = _items(ds, "ScheduledStepAttributesSequence")
    return next((uid for item in items if (uid := read_text_value(item, "StudyInstanceUID"))), "")


def _listed(ds: Dataset, series_keyword: str) -> list[str]:
    """Return the images that series items list: of a step, or of a notification."""
    uids = [
        read_text_value(image, "ReferencedSOPInstanceUID")
        for series in _items(ds, series_keyword)
        for keyword in _LISTS
        for image in _items(series, keyword)
        if read_text_value(image, "InstanceAvailability") != "UNAVAILABLE"  # PS3.3 C.4.23.1.1
    ]
    found = sorted({uid for uid in uids if is_uid(uid)})
    return found if len(found) <= MAX_LISTED else []


def _items(ds: Dataset, keyword: str) -> Iterable[Dataset]:
    items = ds.get(keyword)
    return items if isinstance(items, Sequence) and not isinstance(items, str) else ()
