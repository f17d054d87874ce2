"""Whose results leave: a real PACS knows the study as somebody's, and that counts."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid
from sqlalchemy import Engine, select

from dicom_out.destination import Destination
from ledger.database import migrate, open_database, reading, transaction
from ledger.domain import DeliveryState
from ledger.errors import LedgerError
from ledger.patients import Patient
from ledger.queries import find_study, study_report
from ledger.tables import Decision, Delivery, Event, Job, ResultObjectRow, Revision, Study
from pacsight.peers import QueryJournal, ask_patient, ask_source
from pacsight.settings import Settings
from pacsight.stages import perform
from pacsight.stages.context import StageContext
from pacsight.stages.deliver import deliver_results
from pacsight.work import Stage, Work, job_queued
from scp.config import Source
from scp.errors import NotReleasedError
from scp.patient_guard import release_study
from tests.pacsight.test_outbox import add_result
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port
from tests.peers.storage_scp import StorageScp
from tests.scp.received import radiograph

OURS = {"PatientID": "4711", "PatientName": "Müller^Änne", "PatientBirthDate": "19500101"}


def part10(ds: Dataset) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    file = io.BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


class Outbox:
    """One study with one result that waits for its delivery."""

    def __init__(self, engine: Engine, folder: Path, port: int, **destination: Any) -> None:
        self.engine = engine
        self.study, self.result = generate_uid(), generate_uid()
        settings = Settings(
            data_dir=folder,
            destinations=(
                Destination(
                    name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=port, **destination
                ),
            ),
        )
        self.context = StageContext(
            settings,
            engine,
            settings.open_store(),
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            lambda: 100.0,
            QueryJournal(engine, lambda: 100.0),
        )
        report = radiograph(StudyInstanceUID=self.study, SOPInstanceUID=self.result, **OURS)
        del report.PixelData
        report.SOPClassUID = ComprehensiveSRStorage
        report.Modality = "SR"
        (folder / f"{self.result}.dcm").write_bytes(part10(report))
        with transaction(engine) as session:
            row = add_result(session, self.result, self.study)
            session.flush()
            item = session.get_one(ResultObjectRow, row.result_object_id)
            item.path = f"{self.result}.dcm"
            revision = session.get_one(Decision, item.decision_id).revision_id
            self.work = Work(Stage.DELIVER, revision, item.decision_id, "pacs", 1)

    def deliver(self) -> Delivery:
        deliver_results(self.context, self.work)
        with reading(self.engine) as session:
            return session.query(Delivery).one()

    def stored(self) -> Study:
        with reading(self.engine) as session:
            study = find_study(session, self.study)
            assert study is not None
            return study


def queries(engine: Engine, study: str) -> list[Event]:
    with reading(engine) as session:
        query = select(Event).where(Event.action == "peer.queried", Event.subject == study)
        return list(session.scalars(query.order_by(Event.id)))


def test_real_pacs_decides_whose_results_leave(
    start_orthanc: Callable[..., Orthanc], sqlite_engine: Engine, tmp_path: Path
) -> None:
    pacs = start_orthanc()

    # it does not know the study, or knows it as the same patient's: sent
    unknown = Outbox(sqlite_engine, tmp_path, pacs.dicom_port)
    journal = unknown.context.queries
    (there,) = unknown.context.settings.destinations
    assert ask_patient("PACSIGHT", journal, there, unknown.study) is None
    assert unknown.deliver().state == DeliveryState.DELIVERED
    assert len(queries(sqlite_engine, unknown.study)) == 1, "asked again soon"
    assert pacs.instances()

    def at_pacs(**patient: str) -> Outbox:
        with transaction(sqlite_engine) as session:
            session.query(Delivery).delete()
        box = Outbox(sqlite_engine, tmp_path, pacs.dicom_port)
        pacs.upload(part10(radiograph(StudyInstanceUID=box.study, **OURS | patient)))
        return box

    same = at_pacs(PatientName="MÜLLER^ÄNNE")
    assert same.deliver().state == DeliveryState.DELIVERED
    assert same.stored().decided_patient is None

    # renamed: followed by a new revision, and the old bytes never leave
    renamed = at_pacs(PatientName="Schröder^Änne")
    row = renamed.deliver()
    assert (row.state, (row.last_error or "")[:15]) == (DeliveryState.DEAD, "PATIENT_CHANGED")
    study = renamed.stored()
    assert study.patient_name == "Schröder^Änne"
    assert study.decided_by == "pacs"
    with reading(sqlite_engine) as session:
        codes = [
            (one.number, one.reason_code, one.superseded_by)
            for one in session.query(Revision).filter(Revision.study_id == study.id)
        ]
    assert codes == [(1, "R", 2), (2, "PATIENT_RENAMED", None)]
    assert not pacs.get(f"/dicom-web/instances?SOPInstanceUID={renamed.result}")

    # somebody else's study there: left to people
    other = at_pacs(PatientID="99", PatientName="Doe^John", PatientBirthDate="19700101")
    row = other.deliver()
    assert (row.state, (row.last_error or "")[:15]) == (DeliveryState.DEAD, "PATIENT_DIFFERS")
    assert other.stored().decided_patient is None
    assert "Doe" not in (row.last_error or "")

    # and it says what it holds
    source = Source(ae_title="ORTHANC", host="127.0.0.1", port=pacs.dicom_port)
    series = ask_source("PACSIGHT", journal, source, other.study)
    assert series is not None
    assert [(one.modality, one.instances) for one in series] == [("DX", 1)]
    assert ask_source("PACSIGHT", journal, source, generate_uid()) is None
    assert ask_source("NOBODY", journal, source, other.study) is None  # may not ask there
    # who was asked is written down, once for what was asked twice, and nothing of the answers
    asked = [row.detail["level"] for row in queries(sqlite_engine, other.study)]
    assert asked == ["STUDY", "SERIES"]
    (query, _) = queries(sqlite_engine, other.study)
    assert (query.actor, query.detail) == (
        "ORTHANC",
        {
            "address": "127.0.0.1",
            "level": "STUDY",
            "keys": ["PatientID", "PatientName", "PatientBirthDate"],
        },
    )


def test_nothing_goes_on_about_a_held_study(sqlite_engine: Engine, tmp_path: Path) -> None:
    peer = StorageScp("ORTHANC")
    peer.start()
    box = Outbox(sqlite_engine, tmp_path, peer.port)
    with transaction(sqlite_engine) as session:
        job_queued(session, box.work, "pacs", 1.0)
        study = find_study(session, box.study)
        assert study is not None
        study.held_code, study.held_reason = "PATIENT_CONFLICT", "Because."
        assert study_report(session, study)["state"] == "held"
    assert perform(box.context, box.work) == []
    with reading(sqlite_engine) as session:
        (job,) = session.query(Job)
        (row,) = session.query(Delivery)
    peer.stop()
    assert (job.state, job.error_code) == ("failed", "STUDY_HELD")
    assert (row.state, row.next_attempt_at) == (DeliveryState.PENDING, 110.0)  # may be released
    assert peer.stored == []


@pytest.mark.parametrize("checks_patient", [True, False])
def test_peer_that_answers_no_query_gets_the_results(
    sqlite_engine: Engine, tmp_path: Path, checks_patient: bool
) -> None:
    peer = StorageScp("ORTHANC")
    peer.start()
    box = Outbox(sqlite_engine, tmp_path, peer.port, checks_patient=checks_patient)
    row = box.deliver()
    peer.stop()
    assert row.state == DeliveryState.DELIVERED
    assert peer.stored == [box.result]


def test_silent_source_is_no_error(sqlite_engine: Engine) -> None:
    source = Source(ae_title="GONE", host="127.0.0.1", port=free_port(), timeout_s=0.5)
    journal = QueryJournal(sqlite_engine, lambda: 1.0)
    assert ask_source("PACSIGHT", journal, source, "1.2.3") is None
    assert queries(sqlite_engine, "1.2.3") == [], "nothing was asked"


def test_question_that_could_not_be_written_down_is_written_down_the_next_time(
    sqlite_url: str,
) -> None:
    engine = open_database(sqlite_url)
    peer = Destination(name="pacs", ae_title="ORTHANC", host="pacs", port=104)
    note = QueryJournal(engine, lambda: 1.0).of(peer)
    with pytest.raises(LedgerError):  # nothing is asked then
        note("STUDY", "1.2.3", ("PatientID",), "")
    migrate(engine)
    for _ in range(2):
        note("STUDY", "1.2.3", ("PatientID",), "")
    assert len(queries(engine, "1.2.3")) == 1
    engine.dispose()


def test_results_of_before_a_decision_are_not_sent(sqlite_engine: Engine, tmp_path: Path) -> None:
    peer = StorageScp("ORTHANC")
    peer.start()
    box = Outbox(sqlite_engine, tmp_path, peer.port)
    release = partial(release_study, patient_id="1", drops_others=False, now=1.0, stat_rules=())
    with transaction(sqlite_engine) as session:
        study = find_study(session, box.study)
        assert study is not None
        study.held_code = "PATIENT_CONFLICT"
        with pytest.raises(NotReleasedError, match="0 of its 0 patients"):
            release(session, study)
        study.held_code = None
        with pytest.raises(NotReleasedError, match="Nothing holds"):
            release(session, study)
        study.decided_patient = {
            "patient_id": "4712",
            "patient_name": "Müller^Änne",
            "patient_birth_date": "19500101",
        }
    row = box.deliver()
    peer.stop()
    assert (row.state, (row.last_error or "")[:15]) == (DeliveryState.DEAD, "PATIENT_CHANGED")
    assert peer.stored == []
    assert Patient.of(box.stored()) == Patient()
