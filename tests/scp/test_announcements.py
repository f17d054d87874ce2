"""MPPS and Instance Availability Notification from real SCUs, beside the streaming C-STORE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, Association
from pynetdicom.sop_class import (
    DigitalXRayImageStorageForPresentation,
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)
from sqlalchemy import Engine, select

from ledger.database import reading
from ledger.tables import Announcement, ReceivedObject, Revision
from scp.config import CompletenessConfig
from scp.evidence import EvidenceReader
from scp.indexer import index_received
from scp.listener import Listener
from scp.revisions import close_complete_studies
from tests.scp.received import data_set_bytes, radiograph

MPPS, IAN = ModalityPerformedProcedureStep, InstanceAvailabilityNotification
PATIENCE = CompletenessConfig(quiet_s=3600, cap_s=7200)


def item(**attributes: object) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def step(study: str, status: str = "IN PROGRESS") -> Dataset:
    return item(
        ScheduledStepAttributesSequence=[item(StudyInstanceUID=study)],
        PerformedProcedureStepStatus=status,
        PatientID="4711",
    )


def end(uids: Sequence[str], status: str = "COMPLETED") -> Dataset:
    images = [item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=uid) for uid in uids]
    return item(
        PerformedProcedureStepStatus=status,
        PerformedSeriesSequence=[item(SeriesInstanceUID="1.2.3", ReferencedImageSequence=images)],
    )


def notification(study: str, uids: Sequence[str], availability: str = "ONLINE") -> Dataset:
    images = [
        item(
            ReferencedSOPClassUID="1.2",
            ReferencedSOPInstanceUID=uid,
            InstanceAvailability=availability,
        )
        for uid in uids
    ]
    series = item(SeriesInstanceUID="1.2.3", ReferencedSOPSequence=images)
    return item(StudyInstanceUID=study, ReferencedSeriesSequence=[series])


@contextmanager
def associated(listener: Listener) -> Iterator[Association]:
    ae = AE(ae_title="CT01")
    for uid in (MPPS, IAN, DigitalXRayImageStorageForPresentation):
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", listener.port, ae_title="PACSIGHT")
    assert association.is_established
    yield association
    association.release()


def store(association: Association, ds: Dataset) -> int:
    data_set_bytes(ds)  # gives it file meta information
    return int(association.send_c_store(ds).Status)


def announced(engine: Engine) -> list[Announcement]:
    with reading(engine) as session:
        return list(session.scalars(select(Announcement).order_by(Announcement.id)))


def close(engine: Engine, spool: Path, now: float) -> list[str]:
    """Index and close what is complete; return the codes of all revisions."""
    index_received(engine, spool, now=now)
    close_complete_studies(engine, PATIENCE, now=now, reader=EvidenceReader())
    with reading(engine) as session:
        return list(session.scalars(select(Revision.reason_code).order_by(Revision.id)))


def test_completed_step_closes_its_study_while_the_association_is_open(
    listener: Listener, sqlite_engine: Engine, spool: Path
) -> None:
    study, mpps = generate_uid(), generate_uid()
    images = [radiograph(StudyInstanceUID=study) for _ in range(3)]
    with associated(listener) as association:
        assert association.send_n_create(step(study), MPPS, mpps)[0].Status == 0x0000
        for ds in images[:2]:
            assert store(association, ds) == 0x0000
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == []
        uids = [ds.SOPInstanceUID for ds in images]
        assert association.send_n_set(end(uids), MPPS, mpps)[0].Status == 0x0000
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == []  # one is missing
        assert store(association, images[2]) == 0x0000
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == ["ANNOUNCED_INSTANCES_HELD"]
    (row,) = announced(sqlite_engine)
    assert (row.kind, row.status, row.study_instance_uid) == ("mpps", "COMPLETED", study)
    assert (row.calling_ae_title, len(row.sop_instance_uids)) == ("CT01", 3)


def images_at(engine: Engine) -> float:
    """Return a time just after the last arrival, past the burst."""
    with reading(engine) as session:
        return max(session.scalars(select(ReceivedObject.received_at))) + 0.6


def test_notification_closes_its_study(
    listener: Listener, sqlite_engine: Engine, spool: Path
) -> None:
    study = generate_uid()
    images = [radiograph(StudyInstanceUID=study) for _ in range(2)]
    uids = [ds.SOPInstanceUID for ds in images]
    with associated(listener) as association:
        for ds in images:
            store(association, ds)
        lost = notification(study, [generate_uid()], "UNAVAILABLE")  # nobody can send that
        for ds in (notification(study, uids), lost):
            assert association.send_n_create(ds, IAN, generate_uid())[0].Status == 0x0000
    assert close(sqlite_engine, spool, images_at(sqlite_engine)) == ["ANNOUNCED_INSTANCES_HELD"]


def test_lists_prove_nothing_while_an_image_is_here_that_none_has(
    listener: Listener, sqlite_engine: Engine, spool: Path
) -> None:
    study = generate_uid()
    images = [radiograph(StudyInstanceUID=study) for _ in range(3)]
    uids = [ds.SOPInstanceUID for ds in images]
    with associated(listener) as association:
        for ds in images[:2]:
            store(association, ds)
        association.send_n_create(notification(study, uids[:1]), IAN, generate_uid())
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == []
        later = step(study)
        mpps = generate_uid()
        association.send_n_create(later, MPPS, mpps)
        ended = end(uids[2:])
        marks = item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=uids[1])
        (series,) = ended.PerformedSeriesSequence
        series.ReferencedNonImageCompositeSOPInstanceSequence = [marks]
        association.send_n_set(ended, MPPS, mpps)
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == []  # one is missing
        store(association, images[2])
        assert close(sqlite_engine, spool, images_at(sqlite_engine)) == ["ANNOUNCED_INSTANCES_HELD"]


def test_answers_follow_the_standard(listener: Listener, sqlite_engine: Engine) -> None:
    study, uid = generate_uid(), generate_uid()
    with associated(listener) as association:

        def create(ds: Dataset, sop_class: str, instance: str) -> int:
            return int(association.send_n_create(ds, sop_class, instance)[0].Status)

        def change(ds: Dataset, instance: str) -> int:
            return int(association.send_n_set(ds, MPPS, instance)[0].Status)

        assert create(step(study, "COMPLETED"), MPPS, uid) == 0x0106
        assert create(item(PerformedProcedureStepStatus="IN PROGRESS"), MPPS, uid) == 0x0120
        assert create(item(PatientID="1"), IAN, uid) == 0x0120
        assert create(step(study), MPPS, uid) == 0x0000
        assert create(step(study), MPPS, uid) == 0x0111
        assert change(end([]), generate_uid()) == 0x0112
        assert change(item(PerformedProcedureStepStatus="DONE"), uid) == 0x0106
        assert change(item(PatientID="1"), uid) == 0x0000
        assert change(end(["1.2.3", ""], "DISCONTINUED"), uid) == 0x0000
        assert change(end([]), uid) == 0x0110  # it has ended
    (row,) = announced(sqlite_engine)
    assert (row.status, row.sop_instance_uids) == ("DISCONTINUED", ["1.2.3"])


def test_broken_ledger_refuses_and_the_association_lives(
    listener: Listener, sqlite_engine: Engine
) -> None:
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE announcement RENAME TO gone")
    uid = generate_uid()
    with associated(listener) as association:
        status = association.send_n_create(step(generate_uid()), MPPS, uid)[0].Status
        assert status == 0x0110
        assert association.send_n_set(end([]), MPPS, uid)[0].Status == 0x0110
        assert store(association, radiograph()) == 0x0000
