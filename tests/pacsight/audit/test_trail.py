"""The event log reaches a real syslog collector as DICOM audit messages, whatever happens to it."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from pydicom import dcmread
from sqlalchemy import Engine, select

from dicom_out.destination import Destination
from ledger.anchors import noted_heads
from ledger.audit import last_verification, verify_and_record, verify_log
from ledger.database import reading, transaction
from ledger.events import record
from ledger.seal import seal_events
from ledger.tables import AuditForwarding, Decision, Event, ResultObjectRow, Revision, Study
from pacsight.audit.auditor import Auditor
from pacsight.audit.config import AuditConfig, CollectorConfig
from pacsight.audit.forwarder import Forwarder
from pacsight.audit.trail import _TELLERS, Ourselves, message_of
from pacsight.errors import CollectorError
from pacsight.settings import Settings
from tests.pacsight.audit.collector import Collector
from tests.peers.certificates import Authority
from tests.peers.process import free_port, wait_until
from tests.peers.rsyslog import Rsyslog

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).parent / "audit_message.rng"))
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, RESULT = "1.2.3", "1.2.3.4"
US = Ourselves(
    "PACSIGHT",
    "host-1",
    "pacsight",
    {"pacs": Destination(name="pacs", ae_title="MAINPACS", host="10.0.0.5", port=104)},
)
# action -> (actor, subject, detail) as the code records them
RECORDED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "program.started": ("host-1", "program:scp", {"version": "1"}),
    "program.stopped": ("host-1", "program:scp", {"version": "1"}),
    "web.signed_in": ("anna", "user:anna", {}),
    "web.sign_in_failed": ("unknown", "user:unknown", {}),
    "web.signed_out": ("anna", "user:anna", {}),
    "study.viewed": ("anna", STUDY, {}),
    "study.retrieved": ("anna", STUDY, {"by": "dicom-web"}),
    "result.reviewed": ("rosa", STUDY, {"model": "m", "revision": 1, "verdict": "accepted"}),
    "study.released": ("operator", STUDY, {"claim": 1, "of": 2, "drops_others": False}),
    "study.exported": ("anna", STUDY, {"what": "zip"}),
    "study.uploaded": ("anna", STUDY, {"upload": "u", "model": None, "delivered": False}),
    "instances.received": ("CT01", STUDY, {"address": "10.0.0.17", "sop_classes": {CT: 3}}),
    "delivery.begun": ("pacs", STUDY, {"attempt": 1, "sop_classes": {CT: 3}}),
    "delivery.delivered": ("pacs", RESULT, {"attempt": 1, "status": 0}),
    "delivery.pending": ("pacs", RESULT, {"attempt": 1, "status": None}),
    "delivery.lost": ("pacs", RESULT, {"attempt": 1}),
    "delivery.dead": ("gone", RESULT, {"attempt": 9, "status": 0x0110}),
    "study.expired": ("retention", STUDY, {"rule": "age", "bytes": 1}),
    "worklist.searched": ("anna", "worklist", {"asked_by": ["words"]}),
    "worklist.exported": ("anna", "worklist", {"asked_by": ["words"]}),
    "peer.queried": (
        "MAINPACS",
        STUDY,
        {
            "address": "10.0.0.5",
            "level": "IMAGE",
            "keys": ["SOPInstanceUID"],
            "series": f"{STUDY}.1",
        },
    ),
    "association.rejected": ("WHO", "peer:10.9.9.9", {"reason": "not allowed", "count": 3}),
    "user.added": ("adam", "user:anna", {"role": "staff"}),
    "user.changed": ("adam", "user:anna", {"role": "staff", "active": True}),
    "user.password_changed": ("anna", "user:anna", {}),
    "token.made": ("anna", "token:1", {"name": "n", "scopes": ["read"]}),
    "token.revoked": ("anna", "token:1", {"name": "n", "scopes": ["read"]}),
    "model.switched_on": ("adam", "model:m", {}),
    "model.switched_off": ("adam", "model:m", {}),
    "events.read": ("adam", "events", {"asked_by": ["actor"]}),
    "audit.noted": ("audit", "events", {"number": 1, "digest": "0" * 64}),
    "audit.verified": ("adam", "events", {"code": "EVENT_CHANGED", "message": "Event 6 …"}),
    "audit.archived": ("operator", "events-1-2.jsonl.gz", {"first": 1, "last": 2}),
}


@pytest.fixture
def study(engine: Engine) -> None:
    _add_study(engine)


def _add_study(engine: Engine) -> None:
    with transaction(engine) as session:
        row = Study(
            study_instance_uid=STUDY, patient_id="PAT\x007", patient_name="Doe^<Jöhn> & Co",
            patient_birth_date="", patient_sex="", accession_number="A1", study_date="",
            study_time="", study_description="", first_received_at=1.0, last_received_at=1.0,
        )  # fmt: skip
        session.add(row)
        session.flush()
        revision = Revision(
            study_id=row.id, number=1, reason_code="A", reason="a", is_stat=False, created_at=1.0
        )
        session.add(revision)
        session.flush()
        decision = Decision(
            revision_id=revision.id, model_id="m", model_version="1", model_digest="d",
            is_accepted=True, sop_instance_uids=[], created_at=1.0,
        )  # fmt: skip
        session.add(decision)
        session.flush()
        session.add(
            ResultObjectRow(
                decision_id=decision.id,
                kind="sr",
                sop_class_uid=CT,
                sop_instance_uid=RESULT,
                series_instance_uid="1",
                path="p",
                size=1,
                sha256="s",
                created_at=1.0,
            )
        )


def write(engine: Engine, action: str, now: float = 1.0, **changes: Any) -> None:
    actor, subject, detail = RECORDED[action]
    with transaction(engine) as session:
        values = {"actor": actor, "subject": subject, "detail": detail, **changes}
        record(session, action=action, now=now, **values)


def test_every_message_is_as_the_schema_wants_it_and_has_its_codes(
    sqlite_engine: Engine,
) -> None:
    _add_study(sqlite_engine)
    assert set(RECORDED) == set(_TELLERS)
    told: dict[str, Any] = {}
    for action in RECORDED:
        write(sqlite_engine, action)
    with reading(sqlite_engine) as session:
        for event in session.scalars(select(Event)):
            message = message_of(session, event, US)
            assert message is not None
            told[event.action] = etree.fromstring(message.to_xml(source_id="us", site_id="site"))
    for action, root in told.items():
        assert SCHEMA.validate(root), f"{action}: {SCHEMA.error_log}"
        requestors = root.xpath("ActiveParticipant[@UserIsRequestor='true']")
        assert len(requestors) <= 1, f"{action}: A.5.2 allows one requestor"

    def codes(action: str, path: str) -> list[str]:
        return [str(one) for one in told[action].xpath(f"({path})/@csd-code")]

    assert codes("program.started", "//EventID") == ["110100"]
    assert codes("program.stopped", "//EventTypeCode") == ["110121"]
    assert codes("web.signed_in", "//EventID|//EventTypeCode") == ["110114", "110122"]
    assert codes("study.viewed", "//EventID") == ["110103"]
    assert codes("study.exported", "//EventID|//MediaType") == ["110106", "110037"]
    assert codes("delivery.begun", "//EventID") == ["110102"]
    assert codes("user.added", "//EventID|//EventTypeCode") == ["110113", "110136"]
    assert codes("worklist.searched", "//EventID|//ParticipantObjectIDTypeCode") == [
        "110112", "110181",
    ]  # fmt: skip
    queried = told["peer.queried"]
    assert codes("peer.queried", "//EventID|//RoleIDCode") == ["110112", "110153", "110152"]
    query = b64decode(queried.findtext(".//ParticipantObjectQuery"))
    asked = dcmread(BytesIO(query), force=True)
    assert (asked.QueryRetrieveLevel, asked.StudyInstanceUID) == ("IMAGE", STUDY)
    assert (asked.SeriesInstanceUID, asked.SOPInstanceUID) == (f"{STUDY}.1", "")
    (syntax,) = queried.xpath("//ParticipantObjectDetail[@type='TransferSyntax']/@value")
    assert b64decode(syntax) == b"1.2.840.10008.1.2"
    assert codes("association.rejected", "//EventTypeCode") == ["110126"]
    assert codes("audit.noted", "//EventID") == ["110101"]
    assert codes("audit.verified", "//EventID") == ["110113"], "a broken log alarms"
    received = told["instances.received"]
    assert codes("instances.received", "//EventID|//RoleIDCode") == ["110104", "110153", "110152"]
    assert received.xpath("//ActiveParticipant/@NetworkAccessPointID") == ["10.0.0.17", "host-1"]
    assert received.xpath("//SOPClass/@NumberOfInstances") == ["3"]
    patient = received.xpath("//ParticipantObjectIdentification[@ParticipantObjectTypeCode='1']")
    assert patient[0].get("ParticipantObjectID") == "PAT7", "XML holds no NUL"
    assert patient[0].findtext("ParticipantObjectName") == "Doe^<Jöhn> & Co"
    outcomes = [told[f"delivery.{s}"][0].get("EventOutcomeIndicator") for s in ("pending", "dead")]
    assert outcomes == ["4", "8"]
    assert told["delivery.dead"].xpath("//Accession/@Number") == ["A1"]


def forwarder(engine: Engine, **collector: Any) -> Forwarder:
    values = {"host": "127.0.0.1", "timeout_s": 5.0, **collector}
    config = CollectorConfig(**values)
    return Forwarder(engine, AuditConfig(collector=config), config, US)


def drain(one: Forwarder) -> None:
    while one.forward():
        pass


def about(messages: list[bytes]) -> list[str]:
    """Return the users that messages name, which the tests number."""
    return [re.search(rb'UserID="(\w+)@', one)[1].decode() for one in messages]  # type: ignore[index]  # every message has one


def sign_in(engine: Engine, *numbers: int) -> list[str]:
    with transaction(engine) as session:
        for number in numbers:
            values = {"actor": f"user{number}", "subject": "user:anna", "detail": {}}
            record(session, action="web.signed_in", now=1.0, **values)
    while seal_events(engine):
        pass
    return [f"user{number}" for number in numbers]


def test_messages_wait_for_a_collector_that_is_down_and_come_in_order(engine: Engine) -> None:
    port = free_port()
    one, other = (forwarder(engine, port=port, transport="tcp") for _ in range(2))
    expected = sign_in(engine, 1, 2, 3)
    with pytest.raises(CollectorError, match="can't be reached: Connection refused"):
        one.forward()
    assert other.forward() == 0, "one sends at a time"
    with Collector(port) as collector:
        drain(one)
    expected_later = sign_in(engine, 4)
    with pytest.raises(CollectorError):
        one.forward()
    one.stop()
    with Collector(port) as again:
        drain(other)
    assert about(collector.messages) == expected
    assert about(again.messages) == expected + expected_later, "it may not have written the first"
    header = (
        rb"<85>1 1970-01-01T00:00:01\.000Z host-1 Pacsight \d+ DICOM\+RFC3881 - \xef\xbb\xbf<\?xml"
    )
    assert re.match(header, collector.messages[0])


def test_what_a_collector_got_just_before_it_was_gone_comes_once_more(
    sqlite_engine: Engine,
) -> None:
    """It may have read and closed without writing: rsyslogd does, when it is killed."""
    port = free_port()
    one = forwarder(sqlite_engine, port=port, transport="tcp")
    seen = []
    for number in (1, 2, 3):
        sign_in(sqlite_engine, number)
        for _ in range(2):
            with pytest.raises(CollectorError):
                one.forward()
        with Collector(port) as collector:
            drain(one)
        seen.append(about(collector.messages))
    assert seen == [["user1"], ["user1", "user2"], ["user2", "user3"]]


def test_messages_of_a_broken_connection_come_again(sqlite_engine: Engine) -> None:
    expected = sign_in(sqlite_engine, *range(50))
    with Collector(free_port(), breaks_after=20) as collector:
        one = forwarder(sqlite_engine, port=collector.port, transport="tcp")
        with pytest.raises(CollectorError):
            one.forward()
        first = about(collector.messages)
        drain(one)
    assert first == expected[:20]
    assert about(collector.messages)[20:] == expected, "none is missing, some came twice"


def test_collector_that_dies_with_messages_unread_gets_them_again(sqlite_engine: Engine) -> None:
    """Its machine had acknowledged them, which means nothing."""
    expected = sign_in(sqlite_engine, 1, 2)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listening:

        def die() -> None:
            peer, _ = listening.accept()
            peer.recv(10)
            time.sleep(0.2)
            peer.close()  # with the rest unread: the system resets the connection

        dying = threading.Thread(target=die)
        dying.start()
        one = forwarder(sqlite_engine, port=port, transport="tcp")
        with pytest.raises(CollectorError):
            one.forward()
        dying.join()
    with Collector(port) as collector:
        drain(one)
    assert about(collector.messages) == expected


def test_collector_that_never_closes_is_believed_when_its_machine_has_all(
    sqlite_engine: Engine,
) -> None:
    sign_in(sqlite_engine, 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        one = forwarder(sqlite_engine, port=port, transport="tcp", timeout_s=0.5)
        assert one.forward() == 1
        assert one.forward() == 0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def test_messages_go_by_tls_and_only_to_who_is_trusted(
    sqlite_engine: Engine, authority: Authority, tmp_path: Path
) -> None:
    expected = sign_in(sqlite_engine, *range(30))
    certificate, key = authority.issue("pacsight.example.org")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue())
    tls.load_verify_locations(authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    stranger = Authority(tmp_path / "other")
    with Collector(free_port(), tls=tls) as collector:
        files = {"certificate_file": certificate, "key_file": key}
        wrong = forwarder(sqlite_engine, port=collector.port, ca_file=stranger.file, **files)
        with pytest.raises(CollectorError, match="isn't trusted"):
            wrong.forward()
        wrong.stop()
        nobody = forwarder(sqlite_engine, port=collector.port, ca_file=authority.file)
        with pytest.raises(CollectorError):
            nobody.forward()
        nobody.stop()
        assert collector.messages == []
        right = forwarder(sqlite_engine, port=collector.port, ca_file=authority.file, **files)
        drain(right)
    assert about(collector.messages) == expected


@pytest.mark.peer
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_real_rsyslogd_that_goes_down_under_way_has_every_message(
    sqlite_engine: Engine, authority: Authority, tmp_path: Path, transport: str
) -> None:
    files, options = None, {}
    if transport == "tls":
        files = (*authority.issue(), authority.file)
        certificate, key = authority.issue("pacsight.example.org")
        options = {"certificate_file": certificate, "key_file": key, "ca_file": authority.file}
    peer = Rsyslog(tmp_path / "rsyslog", files)
    one = forwarder(sqlite_engine, port=peer.port, transport=transport, **options)
    expected = sign_in(sqlite_engine, *range(1000))
    with pytest.raises(CollectorError, match="Connection refused"):
        one.forward()
    peer.start()
    stopping = threading.Timer(0.1, peer.stop)
    stopping.start()
    with contextlib.suppress(CollectorError):
        drain(one)
    stopping.join()
    peer.start()
    drain(one)
    peer.stop()
    assert list(dict.fromkeys(about(peer.messages))) == expected
    assert all(message.endswith(b"</AuditMessage>") for message in peer.messages)


def test_worker_keeps_the_trail_by_itself(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, a collector that comes late: sealed, noted, told, verified."""
    monkeypatch.setattr("pacsight.audit.auditor.NOTE_S", 0.5)
    port = free_port()
    settings = Settings(
        data_dir=tmp_path,
        audit=AuditConfig(
            collector=CollectorConfig(host="127.0.0.1", port=port, transport="tcp", timeout_s=2.0)
        ),
    )
    with Auditor(settings, engine, time.time), Auditor(settings, engine, time.time):
        write(engine, "web.signed_in", actor="user1", now=time.time())
        wait_until(lambda: not verify_log(engine).unsealed, "the seal")
        with Collector(port) as collector:
            write(engine, "web.signed_in", actor="user2", now=time.time())
            wait_until(lambda: "user2" in about(collector.messages), "the messages")
        wait_until(lambda: noted_heads(tmp_path), "a note")
        wait_until(lambda: _verified(engine), "a verification", timeout_s=60)
    told = [one for one in about(collector.messages) if one != "pacsight"]
    assert told == ["user1", "user2"]
    found = verify_log(engine, noted_heads(tmp_path))
    assert found.is_whole
    assert found.unsealed == 0, "the last one seals what is left"
    assert found.anchors >= 1
    with reading(engine) as session:
        (row,) = session.scalars(select(AuditForwarding)).all()
        assert row.sent_number >= 2


def _verified(engine: Engine) -> bool:
    with reading(engine) as session:
        return last_verification(session) is not None


def test_broken_log_is_recorded_and_logged(
    sqlite_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    sign_in(sqlite_engine, 1, 2)
    with sqlite_engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER event_never_changes")
        connection.exec_driver_sql("UPDATE event SET actor = 'x' WHERE number = 2")
    verify_and_record(sqlite_engine, [], actor="audit", now=5.0)
    with reading(sqlite_engine) as session:
        event = last_verification(session)
        assert event is not None
        assert event.detail["code"] == "EVENT_CHANGED"
    assert "EVENT_CHANGED: Event 2" in caplog.text
