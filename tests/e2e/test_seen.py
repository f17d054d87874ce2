"""A marked patient goes through everything; what is to be seen is seen, and never the patient.

One Pacsight in three processes, with metrics, traces, JSON logs at debug level and an audit
collector, is shared by the tests of this module.
"""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from pydicom import Dataset
from sqlalchemy import select

from dicom_out.delivery import echo, send
from ledger.database import reading, transaction
from ledger.tables import Event, ReceivedObject, Revision, Study
from pacsight.samples import SamplePatient, chest_radiograph, ct_series
from tests.pacsight.audit.collector import Collector
from tests.peers.process import free_port, wait_until
from tests.peers.storage_scp import StorageScp
from tests.service import Service
from viewer_api.accounts import add_user

PATIENT = SamplePatient("Zqxname^Wvgiven", "ZQXID77", "19010203", "F", "004Y")
MARKS = re.compile(rb"zqx|wvgiven|19010203|1901-02-03|1901/02/03", re.IGNORECASE)
PASSWORD = "correct horse battery"


class Spans:
    """An OpenTelemetry collector: OTLP over HTTP, as far as traces go."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        spans = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                assert self.headers.get("Content-Encoding") is None
                spans.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def of(self, trace_id: str) -> list[Any]:
        found = []
        for body in list(self.bodies):
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found += [one for one in scope.spans if one.trace_id.hex() == trace_id]
        return found


@dataclass
class World:
    service: Service
    pacs: StorageScp
    refusing: StorageScp
    spans: Spans
    collector: Collector
    temporary: Path
    ports: dict[str, int]
    web: str
    study: str = ""
    answers: list[bytes] = field(default_factory=list)
    scraped: dict[str, bytes] = field(default_factory=dict)

    def ask(self, role: str, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports[role]}{path}", timeout=20)

    def value(self, role: str, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        total = 0.0
        for family in text_string_to_metric_families(self.ask(role, "/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("seen")
    temporary = folder / "tmp"
    temporary.mkdir()
    pacs, refusing, spans = StorageScp("ORTHANC"), StorageScp("REFUSING"), Spans()
    pacs.start()
    refusing.status = 0xA700
    refusing.start()
    collector = Collector(free_port()).start()
    ports = {role: free_port() for role in ("scp", "worker", "web")}
    web = free_port()
    there = {"ae_title": "X", "host": "127.0.0.1", "profile": "ohif"}
    service = Service(
        folder / "service",
        pacs_port=pacs.port,
        destinations=[
            {**there, "name": "pacs", "port": pacs.port, "proof": "none"},
            {**there, "name": "refusing", "port": refusing.port, "proof": "none"},
            {**there, "name": "nobody", "port": free_port(), "proof": "none"},
        ],
        monitoring={
            **{f"{role}_port": port for role, port in ports.items()},
            "otlp_endpoint": spans.url,
        },
        audit={
            "collector": {"host": "127.0.0.1", "port": collector.port, "transport": "tcp"},
        },
        log={"format": "json", "level": "debug"},
        web={"port": web},
    )
    made = World(
        service, pacs, refusing, spans, collector, temporary, ports, f"http://127.0.0.1:{web}"
    )
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    try:
        for role in ("scp", "worker", "web"):
            service.start(role, wait=role == "scp")
        wait_until(lambda: _answers(made, "worker"), "a ready worker", timeout_s=120)
        wait_until(lambda: _answers(made, "web"), "a ready web app", timeout_s=60)
        _go_through_everything(made, folder / "files")
        for role in ports:
            made.scraped[role] = made.ask(role, "/metrics").content
        yield made
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        service.stop()
        collector.stop()
        spans.stop()
        pacs.stop()
        refusing.stop()


def _answers(world: World, role: str) -> bool:
    try:
        return world.ask(role, "/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _go_through_everything(world: World, files: Path) -> None:
    service = world.service
    analysed = _marked(chest_radiograph(1, consolidation=True, patient=PATIENT))
    world.study = str(analysed.StudyInstanceUID)
    refused = [_marked(one) for one in ct_series(2, slices=3, patient=PATIENT)]
    unreadable = _marked(chest_radiograph(3, consolidation=False, patient=PATIENT))
    del unreadable.StudyInstanceUID
    held = [_marked(chest_radiograph(4 + n, consolidation=False, patient=PATIENT)) for n in (0, 1)]
    held[1].StudyInstanceUID = held[0].StudyInstanceUID
    held[1].PatientID, held[1].PatientName = "ZQXOTHER", "Zqxother^Person"
    files.mkdir()
    for number, ds in enumerate([analysed, *refused, unreadable, *held]):
        ds.save_as(files / f"zqx-{number}.dcm", enforce_file_format=True)
    receipts = send(sorted(files.iterdir()), service.itself, calling_ae_title="CT01")
    assert all(receipt.is_delivered for receipt in receipts)
    other = service.itself.model_copy(update={"ae_title": "OTHER"})
    assert not echo(other, calling_ae_title="STRANGER").is_delivered
    with transaction(service.ledger) as session:
        add_user(
            session, login="adam", name="Adam", role="administrator", password=PASSWORD,
            actor="test", now=1.0,
        )  # fmt: skip
    _use_the_web_app(world)
    wait_until(lambda: world.refusing.attempts > 2, "refused deliveries", timeout_s=90)
    wait_until(lambda: len(world.pacs.stored) >= 3, "deliveries", timeout_s=60)
    service.wait_until_settled(str(refused[0].StudyInstanceUID))
    wait_until(lambda: "held" in {one["state"] for one in service.studies()}, "a held study")
    with httpx.Client(base_url=world.web, timeout=60) as browser:
        _sign_in(browser)
        report = service.report(world.study)
        assert report is not None
        page = browser.get(f"/studies/{world.study}")
        world.answers.append(page.content)
        pdf = re.search(r'href="(/studies/[\d.]+/results/\d+\.pdf)"', page.text)
        assert pdf is not None
        assert browser.get(pdf[1]).content.startswith(b"%PDF")
        for path in (
            f"/studies/{world.study}/report.json", f"/studies/{world.study}/results.zip",
            "/operations", "/operations/events", "/worklist.csv?q=zqxname",
        ):  # fmt: skip
            assert browser.get(path).status_code == 200, path


def _marked(ds: Any) -> Any:
    ds.AccessionNumber = "ZQXACC9"
    ds.StudyDescription = "Zqxdescription"
    ds.SeriesDescription = "Zqxseries"
    ds.InstitutionName = "Zqxhospital"
    ds.ReferringPhysicianName = "Zqxdoctor^Ref"
    ds.PatientComments = "Zqxcomment"
    ds.OtherPatientIDs = "ZQXOID"
    item = Dataset()
    item.RequestedProcedureDescription = "Zqxrequest"
    ds.RequestAttributesSequence = [item]
    return ds


def _sign_in(browser: httpx.Client, login: str = "adam", password: str = PASSWORD) -> None:
    page = browser.get("/login")
    token = re.search(r'name="form_token" value="(\w+)"', page.text)
    assert token is not None
    data = {"login": login, "password": password, "form_token": token[1]}
    browser.post("/login", data=data)


def _use_the_web_app(world: World) -> None:
    with httpx.Client(base_url=world.web, timeout=60) as browser:
        _sign_in(browser, "zqxname", "zqx wrong password")
        _sign_in(browser)
        csrf = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/upload").text)
        assert csrf is not None
        headers = {"x-csrf-token": csrf[1]}
        upload = browser.post("/uploads", headers=headers).json()["id"]
        picture = io.BytesIO()
        rng = np.random.default_rng(1)
        Image.fromarray(rng.integers(0, 255, (256, 256), np.uint8)).save(picture, "PNG")
        for name, data in (("zqxname.png", picture.getvalue()), ("zqxname.dcm", b"zqxname" * 99)):
            answer = browser.put(
                f"/uploads/{upload}/files", params={"name": name}, content=data, headers=headers
            )
            assert answer.status_code == 200
        fields = {
            "patient_name": "Zqxname^Upload", "patient_id": "ZQXUP", "patient_sex": "F",
            "patient_birth_date": "1901-02-03", "model": "cxr-pneumonia",
        }  # fmt: skip
        finished = browser.post(f"/uploads/{upload}/finish", data=fields, headers=headers)
        assert finished.status_code == 200, finished.text
        assert "zqxname" in browser.get("/worklist", params={"q": "zqxname"}).text.lower()
        for path in (
            "/studies/zqxname",
            "/zqxname",
            "/worklist?after=zqxname&received_from=zqxname",
        ):
            browser.get(path)
        browser.post("/studies/zqxname/deliver", data={"destination": "zqx"}, headers=headers)


def test_marks_were_where_they_belong(world: World) -> None:
    """Else the other tests would find nothing because there was nothing."""
    assert MARKS.search(world.answers[0]), "the results page names its patient"
    wait_until(
        lambda: any(world.study.encode() in one and b"ZQXID77" in one for one in _messages(world)),
        "an audit message about the patient",
    )
    states = set()
    with reading(world.service.ledger) as session:
        states = set(session.scalars(select(ReceivedObject.state)))
    assert {"indexed", "quarantined"} <= states
    assert {one["state"] for one in world.service.studies()} >= {"held", "not analysed"}


def _messages(world: World) -> list[bytes]:
    return list(world.collector.messages)


def test_no_mark_of_the_patient_is_in_logs_metrics_traces_names_or_events(world: World) -> None:
    for role in ("scp", "worker", "web"):
        log = (world.service.folder / f"{role}.log").read_bytes()
        assert log, "at debug level every role says something"
        assert not MARKS.search(log), f"{role}: {MARKS.search(log)}"
    for role, body in world.scraped.items():
        assert b"pacsight_info" in body
        assert not MARKS.search(body), role
    assert world.spans.bodies
    assert not any(MARKS.search(body) for body in world.spans.bodies)
    names = [
        os.fsencode(path.relative_to(folder))
        for folder in (world.temporary, world.service.folder)
        for path in folder.rglob("*")
    ]
    assert len(names) > 20
    assert not [name for name in names if MARKS.search(name)]
    engine = world.service.folder / "data"
    for file in engine.glob("engine.sqlite*"):
        assert not MARKS.search(file.read_bytes()), "arguments of the durable engine"
    with reading(world.service.ledger) as session:
        events = [
            f"{one.actor} {one.action} {one.subject} {json.dumps(one.detail)}".encode()
            for one in session.scalars(select(Event))
        ]
    assert len(events) > 20
    assert not [event for event in events if MARKS.search(event)]


def test_one_trace_leads_from_association_to_delivery(world: World) -> None:
    with reading(world.service.ledger) as session:
        trace_id = session.scalars(
            select(Revision.trace_id)
            .join(Study, Revision.study_id == Study.id)
            .where(Study.study_instance_uid == world.study)
        ).one()
    assert trace_id is not None
    wanted = {
        "study",
        "association",
        "receive",
        "complete",
        "route",
        "predict",
        "encode",
        "deliver",
    }
    wait_until(lambda: wanted <= {one.name for one in world.spans.of(trace_id)}, "the spans")
    spans = world.spans.of(trace_id)
    (root,) = (one for one in spans if one.name == "study")
    assert root.parent_span_id == b""
    assert {one.parent_span_id for one in spans if one is not root} == {root.span_id}
    starts = {one.name: one.start_time_unix_nano for one in spans}
    assert starts["study"] == starts["association"] <= starts["receive"] <= starts["predict"]
    outcomes = {
        (key.value.string_value, one.name)
        for one in spans
        for key in one.attributes
        if key.key == "pacsight.outcome"
    }
    assert ("released", "association") in outcomes
    assert ("done", "deliver") in outcomes
    lines = [
        json.loads(line) for line in world.service.log("worker").splitlines() if line[0] == "{"
    ]
    mine = [line for line in lines if line.get("trace_id") == trace_id]
    assert {"predict", "encode"} <= {line["job"].split(":")[0] for line in mine}
    assert {line["role"] for line in mine} == {"worker"}
    assert all(isinstance(line["study"], int) for line in mine)


def test_metrics_say_what_happened(world: World) -> None:
    assert world.value("scp", "pacsight_store_seconds_count") == 7
    assert world.value("scp", "pacsight_associations_total", outcome="released") >= 1
    assert world.value("scp", "pacsight_associations_total", outcome="rejected") == 1
    assert world.value("scp", "pacsight_disk_free_bytes") > 0
    assert world.value("worker", "pacsight_turnaround_seconds_count", modality="DX") >= 1
    assert world.value("worker", "pacsight_inference_seconds_count", model="cxr-pneumonia") >= 1
    tried = {"destination": "pacs", "outcome": "delivered"}
    assert world.value("worker", "pacsight_delivery_attempts_total", **tried) >= 3
    assert world.value("worker", "pacsight_stage_seconds_count", stage="route", outcome="done") >= 2
    assert world.value("web", "pacsight_ledger_up") == 1
    assert world.value("web", "pacsight_objects_quarantined") == 1
    assert world.value("web", "pacsight_studies_held") == 1
    assert world.value("web", "pacsight_workers_alive", queue="intake") == 1
    assert world.value("web", "pacsight_deliveries", destination="nobody", state="pending") >= 1
    assert world.value("web", "pacsight_oldest_waiting_seconds", what="delivery") > 0


@pytest.mark.parametrize("role", ["scp", "worker", "web"])
def test_probes_answer(world: World, role: str) -> None:
    for path in ("/healthz", "/readyz"):
        answer = world.ask(role, path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert world.ask(role, "/other").status_code == 404


def test_stranger_at_the_door_is_in_the_event_log(world: World) -> None:
    """The last test: the receiver writes it within a minute, or when it stops."""
    world.service.processes["scp"].terminate()
    world.service.wait_for_end("scp")
    with reading(world.service.ledger) as session:
        rejected = session.scalars(
            select(Event).where(Event.action == "association.rejected")
        ).all()
        actions = set(session.scalars(select(Event.action).where(Event.subject == "program:scp")))
    assert [(one.actor, one.subject, one.detail["count"]) for one in rejected] == [
        ("STRANGER", "peer:127.0.0.1", 1)
    ]
    assert actions == {"program.started", "program.stopped"}
