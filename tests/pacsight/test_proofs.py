"""Days of deliveries with the clock passed in, and whether what was taken is really there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel
from sqlalchemy import Engine, select

from dicom_out.destination import DeliveryConfig
from ledger.database import reading, transaction
from ledger.deliveries import retry_deliveries
from ledger.domain import DeliveryState
from ledger.tables import CommitmentRequest, Decision, Delivery, Event, ResultObjectRow
from pacsight.dispatcher import due_deliveries
from pacsight.proofs import LOOKS, Prover
from pacsight.settings import Settings
from pacsight.stages.context import StageContext
from pacsight.stages.deliver import deliver_results
from scp.commitment import INSTANCE, request_dataset
from scp.config import Source
from scp.listener import Listener
from tests.pacsight.committing_pacs import FIND, CommittingPacs
from tests.pacsight.test_outbox import add_delivery
from tests.pacsight.test_patient_check import OURS, Outbox, part10, queries
from tests.peers.orthanc import Orthanc
from tests.peers.process import free_port, wait_until
from tests.scp.conftest import configured
from tests.scp.received import Received, radiograph

DAY_S = 86400.0
START = time.time()
RULES = DeliveryConfig(
    first_retry_s=60, longest_retry_s=6 * 3600, give_up_after_s=3 * DAY_S, proof_after_s=10
)


class Days(Outbox):
    """A study with `objects` results, and a clock that goes on to the next date in the ledger."""

    def __init__(self, engine: Engine, folder: Path, port: int, *, objects: int = 1, **more: Any):
        super().__init__(engine, folder, port, checks_patient=False, timeout_s=5, **more)
        self.now = START
        settings = self.context.settings.model_copy(update={"delivery": RULES})
        self.context = StageContext(
            settings,
            engine,
            self.context.store,
            None,
            None,
            lambda: self.now,  # type: ignore[arg-type]
            self.context.queries,
        )
        self.prover = Prover(settings, engine, lambda: self.now)
        self.results = [self.result]
        with transaction(engine) as session:
            first = session.scalars(select(Delivery)).one()
            for _ in range(objects - 1):
                self.results.append(self._another(session, folder))
            for item in session.scalars(select(ResultObjectRow)):
                item.sop_class_uid, item.series_instance_uid = ComprehensiveSRStorage, "1.2.9"
            first.destination = "pacs"
            for row in session.scalars(select(Delivery)):
                row.queued_at = row.next_attempt_at = self.now

    def _another(self, session: Any, folder: Path) -> str:
        uid = generate_uid()
        report = radiograph(StudyInstanceUID=self.study, SOPInstanceUID=uid, **OURS)
        del report.PixelData
        report.SOPClassUID, report.Modality = ComprehensiveSRStorage, "SR"
        (folder / f"{uid}.dcm").write_bytes(part10(report))
        decision = session.scalars(select(Decision)).one()
        row = add_delivery(session, decision.id, uid)
        session.flush()
        session.get_one(ResultObjectRow, row.result_object_id).path = f"{uid}.dcm"
        return uid

    def rows(self) -> dict[str, Delivery]:
        with reading(self.engine) as session:
            pairs = session.execute(select(Delivery, ResultObjectRow).join(ResultObjectRow))
            return {item.sop_instance_uid: row for row, item in pairs}

    def row(self) -> Delivery:
        return self.rows()[self.result]

    def run(self, until_s: float) -> None:
        """Do what is due, as the dispatcher would, and go on to the next date, up to `until_s`."""
        while self.now <= until_s:
            with reading(self.engine) as session:
                due = due_deliveries(session, self.now)
            for work in due:
                deliver_results(self.context, work)
            dates = [row.next_attempt_at for row in self.rows().values() if row.next_attempt_at]
            if not dates:
                return
            self.now = max(self.now, min(dates))
        self.now = until_s

    def ask(self, after_s: float = RULES.proof_after_s) -> Delivery:
        self.now += after_s
        self.prover.ask(self.context.settings.destinations[0])
        return self.row()

    def close(self) -> None:
        self.prover.close()


@pytest.fixture
def days(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Days]]:
    made: list[Days] = []

    def make(port: int, **more: Any) -> Days:
        made.append(Days(sqlite_engine, tmp_path, port, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_destination_that_is_down_for_days_gets_everything_and_a_dead_letter_is_retried(
    days: Callable[..., Days],
) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port)
    box.run(until_s=START + 2.5 * DAY_S)
    assert (box.row().state, box.row().last_error.split(":")[0]) == (
        DeliveryState.PENDING, "DESTINATION_UNREACHABLE",
    )  # fmt: skip
    with pacs.running():
        box.run(until_s=START + 4 * DAY_S)
    assert (box.row().state, pacs.stored) == (DeliveryState.DELIVERED, [box.result])

    with transaction(box.engine) as session:  # another one: down for longer than it is tried
        row = session.scalars(select(Delivery)).one()
        row.state, row.delivered_at, row.proof_due_at = DeliveryState.PENDING, None, None
        row.queued_at = row.next_attempt_at = box.now
    box.run(until_s=box.now + 9 * DAY_S)
    assert box.row().state == DeliveryState.DEAD
    with pacs.running(), transaction(box.engine) as session:
        retry_deliveries(session, delivery_id=None, actor="operator", now=box.now)
    with pacs.running():
        box.run(until_s=box.now)
    assert box.row().state == DeliveryState.DELIVERED


def test_one_object_is_refused_cut_off_or_answered_late_and_the_others_arrive(
    days: Callable[..., Days],
) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port, objects=3)
    first, second, third = box.results
    seen: list[str] = []

    def moody(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        seen.append(uid)
        if uid == first:
            return 0xA900 if seen.count(uid) == 1 else 0x0000
        if uid == second and seen.count(uid) == 1:
            event.assoc.abort()  # in the middle: no answer
            return 0x0000
        if uid == third:
            time.sleep(0.5)  # slow, and with a remark
            return 0xB000
        return 0x0000

    pacs.on_store = moody
    with pacs.running():
        box.run(until_s=START)
        states = {uid: (row.state, row.last_error) for uid, row in box.rows().items()}
        assert states[first][0] == DeliveryState.DEAD  # a refusal for ever is visible at once
        assert "NOT_SUPPORTED" in str(states[first][1])
        assert states[second][0] == states[third][0] == DeliveryState.PENDING
        box.run(until_s=START + 5000)
        rows = box.rows()
        assert (rows[second].state, rows[second].last_status) == (DeliveryState.DELIVERED, 0)
        assert (rows[third].state, rows[third].last_status) == (DeliveryState.DELIVERED, 0xB000)
        with transaction(box.engine) as session:
            retry_deliveries(session, delivery_id=None, actor="operator", now=box.now)
        box.run(until_s=box.now)
    assert {row.state for row in box.rows().values()} == {DeliveryState.DELIVERED}
    assert seen.count(third) == 1  # what was delivered is not sent again


def test_commitment_proves_and_what_is_not_held_is_sent_again(days: Callable[..., Days]) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port, objects=2)
    lost = box.results[1]
    pacs.fails = {lost: 0x0112}
    with pacs.running():
        box.run(until_s=START)
        assert box.row().proof is None
        assert box.ask().proof == "commitment"  # reported on the same association
        assert box.rows()[lost].failure_reason == 0x0112
        box.ask(0)
        assert box.rows()[lost].state == DeliveryState.PENDING
        assert box.stored().changed_at == box.now  # the worklist shows it
        assert str(box.rows()[lost].last_error).startswith("NOT_COMMITTED")
        pacs.fails = {}
        box.run(until_s=box.now + 1000)
        box.ask()
    assert pacs.stored == [box.result, lost, lost]
    assert box.rows()[lost].proof == "commitment"
    assert pacs.asked == [box.results, [lost]]
    assert pacs.report_statuses == [0, 0]
    with reading(box.engine) as session:
        actions = set(session.scalars(select(Event.action)))
    assert {"delivery.proven", "delivery.lost"} <= actions


@contextmanager
def listening(engine: Engine, folder: Path, **more: Any) -> Iterator[Listener]:
    with Listener(configured(**more), folder / "spool", engine, "test") as listener:
        yield listener


def test_report_comes_to_the_listener_and_an_unknown_one_is_answered(
    days: Callable[..., Days], tmp_path: Path
) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port)
    with listening(box.engine, tmp_path) as listener, pacs.running():
        pacs.report_to = listener.port
        box.run(until_s=START)
        assert box.ask().proof == "commitment"
        pacs._report(None, generate_uid(), [(ComprehensiveSRStorage, box.result)])
    assert pacs.report_statuses == [0x0000, 0x0115]


def test_without_a_report_it_is_looked_for_and_what_is_not_listed_is_sent_again(
    days: Callable[..., Days], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pacsight.proofs.SAME_ASSOCIATION_S", 0.3)
    pacs = CommittingPacs(is_silent=True)
    box = days(pacs.port)
    with pacs.running():
        box.run(until_s=START)
        assert str(box.ask().last_error).startswith("COMMITMENT_AWAITED")
        assert box.ask(RULES.commitment_timeout_s).proof == "find"

        with transaction(box.engine) as session:
            row = session.scalars(select(Delivery)).one()
            row.proof, row.proof_due_at = None, box.now
        pacs.listed.clear()  # lost at the PACS
        for _ in range(LOOKS):
            assert box.row().state == DeliveryState.DELIVERED
            box.ask(7 * 3600)
        assert box.row().state == DeliveryState.PENDING
        box.run(until_s=box.now + 60)
    assert pacs.stored == [box.result] * 2


@pytest.mark.parametrize(("offers", "proof"), [([FIND], "find"), ([], "success")])
def test_destination_is_asked_by_what_it_offers(
    days: Callable[..., Days], offers: list[str], proof: str
) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port)
    with pacs.running(offers=offers):
        box.run(until_s=START)
        assert box.ask().proof == proof
    asked = [row.detail["series"] for row in queries(box.engine, box.study)]
    assert asked == (["1.2.9"] if offers else [])


def test_what_is_insisted_on_is_never_assumed(days: Callable[..., Days]) -> None:
    pacs = CommittingPacs()
    box = days(pacs.port, proof="commitment")
    with pacs.running(offers=[FIND]):
        box.run(until_s=START)
        row = box.ask()
    assert (row.state, row.proof) == (DeliveryState.DELIVERED, None)
    assert str(row.last_error).startswith("COMMITMENT_NOT_OFFERED")
    assert row.proof_due_at is not None


class Modality:
    """Asks us, and takes the answer wherever it comes."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, set[str], dict[str, int]]] = []
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._report)]

    def _report(self, event: Any) -> tuple[int, None]:
        ds = event.event_information
        held = {item.ReferencedSOPInstanceUID for item in ds.get("ReferencedSOPSequence") or ()}
        failed = {
            item.ReferencedSOPInstanceUID: item.FailureReason
            for item in ds.get("FailedSOPSequence") or ()
        }
        self.reports.append((event.event_type, held, failed))
        return 0, None

    def ask(
        self, port: int, instances: list[tuple[str, str]], *, stays: bool, uid: str = ""
    ) -> int:
        before = len(self.reports)
        association = AE("MODALITY").associate(
            "127.0.0.1",
            port,
            [build_context(StorageCommitmentPushModel)],
            ae_title="PACSIGHT",
            evt_handlers=self.handlers,
        )
        status, _ = association.send_n_action(
            request_dataset(uid or generate_uid(), instances),
            1,
            StorageCommitmentPushModel,
            INSTANCE,
        )
        if stays:
            wait_until(lambda: len(self.reports) > before, "the report on the same association")
        association.release()
        return int(status.Status)


def test_modality_is_told_what_is_held_on_its_association_or_later_on_another(
    engine: Engine, tmp_path: Path
) -> None:
    received = Received(engine, tmp_path)
    held = radiograph()
    received.add(held)  # unread yet, durable all the same
    here, wrong, gone = held.SOPInstanceUID, generate_uid(), generate_uid()
    received.add(radiograph(SOPInstanceUID=wrong))
    asked = [("1.2.840", here), (CTImageStorage, wrong), ("1.2.840", gone)]
    answer = (2, {here}, {wrong: 0x0119, gone: 0x0112})
    modality, port = Modality(), free_port()
    with listening(engine, tmp_path) as listener:
        assert modality.ask(listener.port, asked, stays=True) == 0
        assert modality.reports == [answer]
        uid = requests(engine)[0].transaction_uid
        assert modality.ask(listener.port, asked[1:2], stays=True, uid=uid) == 0
        assert modality.reports.pop() == (2, set(), {wrong: 0x0119}), "about what is asked now"
        assert modality.ask(listener.port, asked[:1], stays=False) == 0
        wait_until(lambda: requests(engine)[1].next_attempt_at <= time.time(), "its date")
    settings = Settings(
        data_dir=tmp_path,
        delivery=RULES,
        sources=(Source(ae_title="MODALITY", host="127.0.0.1", port=port),),
    )
    now = time.time()
    prover = Prover(settings, engine, lambda: now)
    prover.answer()  # nobody listens there
    assert "DESTINATION_UNREACHABLE" in str(requests(engine)[1].last_error)
    prover.answer()
    now += RULES.first_retry_s  # a worker that was started again
    prover = Prover(settings, engine, lambda: now)
    ae = AE("MODALITY")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=modality.handlers)
    prover.answer()
    prover.answer()
    server.shutdown()
    assert modality.reports == [answer, (1, {here}, {})]
    assert all(row.reported_at and row.next_attempt_at is None for row in requests(engine))


def requests(engine: Engine) -> list[CommitmentRequest]:
    with reading(engine) as session:
        return list(session.scalars(select(CommitmentRequest).order_by(CommitmentRequest.id)))


def test_request_that_can_not_be_answered_ends_visibly(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    with listening(sqlite_engine, tmp_path, commits_storage=False) as listener:
        assert Modality().ask(listener.port, [("1.2.840", "1.2.3")], stays=False) == 0x0110
    with listening(sqlite_engine, tmp_path) as listener:
        assert Modality().ask(listener.port, [("1.2.840", "1.2.3")], stays=False) == 0
        wait_until(lambda: requests(sqlite_engine)[0].next_attempt_at <= time.time(), "its date")
    now = time.time() + 3.1 * DAY_S
    Prover(Settings(data_dir=tmp_path), sqlite_engine, lambda: now).answer()
    (row,) = requests(sqlite_engine)
    assert (row.next_attempt_at, str(row.last_error)[:12]) == (None, "PEER_UNKNOWN")
    with reading(sqlite_engine) as session:
        assert "commitment.dead" in session.scalars(select(Event.action)).all()


@pytest.mark.peer
def test_real_pacs_commits_to_results_and_asks_for_images(
    days: Callable[..., Days], start_orthanc: Callable[..., Orthanc], tmp_path: Path
) -> None:
    port = free_port()
    pacs = start_orthanc(FORWARD_TO_PORT=str(port))
    box = days(pacs.dicom_port)
    with listening(box.engine, tmp_path, port=port):
        box.run(until_s=START)
        assert box.ask().proof == "commitment"  # Orthanc reports on an association of its own

        with transaction(box.engine) as session:
            row = session.scalars(select(Delivery)).one()
            row.proof, row.proof_due_at, row.transaction_uid = None, box.now, None
        pacs.http.delete(f"/instances/{pacs.get('/instances')[0]}").raise_for_status()
        box.ask(0)
        box.ask(3600)
        box.run(until_s=box.now + 1000)
        assert box.ask().proof == "commitment"
        assert len(pacs.get("/instances")) == 1

        held = radiograph()
        Received(box.engine, tmp_path).add(held)
        wanted = {"DicomInstances": [["1.2.840", str(held.SOPInstanceUID)], ["1.2.840", "1.2.3"]]}
        answer = pacs.http.post("/modalities/pacsight/storage-commitment", json=wanted)
        transaction_id = answer.raise_for_status().json()["ID"]
        wait_until(lambda: requests(box.engine)[0].next_attempt_at <= time.time(), "its date")
        destination = box.context.settings.destinations[0]
        settings = Settings(data_dir=tmp_path, destinations=(destination,))
        Prover(settings, box.engine, time.time).answer()
        report = wait_until(
            lambda: (
                pacs.get(f"/storage-commitment/{transaction_id}")["Status"] != "Pending"
                and pacs.get(f"/storage-commitment/{transaction_id}")
            ),
            "Orthanc's report",
        )
    assert report["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in report["Success"]] == [held.SOPInstanceUID]
    assert [one["FailureReason"] for one in report["Failures"]] == [0x0112]
