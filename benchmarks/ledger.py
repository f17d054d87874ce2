"""What the ledger costs for one more study, when it holds a thousand and when it holds a million.

    python -m benchmarks.ledger [--database sqlite|postgres] [--studies 1000,1000000] [--rounds 200]

Fills a ledger with made-up studies that are finished (one image, one decision, one prediction, two
results, two deliveries, four jobs, eight events, a row of the worklist), then takes more studies
through it the way the service does: the commit before Success, the indexer on real bytes, the
verdict that the study is complete, the rows that routing, prediction and encoding write, the
outbox, the proof, the worklist. Prints the median of each in milliseconds. The pixels, the networks
and the engine's own tables are left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, Table, select, text

from dicom_out.destination import DeliveryConfig, DeliveryReceipt, Outcome
from ledger import proofs
from ledger.database import migrate, open_database, reading, transaction
from ledger.domain import DeliveryState, Proof
from ledger.events import record
from ledger.tables import (
    Association,
    Decision,
    Delivery,
    Event,
    Instance,
    Job,
    PatientClaim,
    PredictionRow,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from ledger.web_tables import StudyTag, WorklistRow
from ledger.worklist import refresh_worklist
from pacsight.dispatcher import due_deliveries, mark_started
from pacsight.engine import DurableEngine
from pacsight.retention import Retention
from pacsight.settings import RetentionConfig, Settings
from pacsight.stages.deliver import pending, settle
from pacsight.work import Stage, Work, job_done, job_queued, job_started
from scp.completeness import Confidence
from scp.config import CompletenessConfig
from scp.evidence import EvidenceReader
from scp.indexer import index_received
from scp.ledger_writer import AssociationEnd, AssociationRecord, LedgerWriter
from scp.part10 import encode_file_meta
from scp.revisions import close_complete_studies
from scp.spool import Spool
from tests.peers.postgres import Postgres
from tests.scp.received import data_set_bytes, radiograph
from viewer_api.dicomweb.conditions import fitting
from viewer_api.dicomweb.matching import parse

START = 1.6e9
EXPLICIT = "1.2.840.10008.1.2.1"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {studies})"
OPEN = 1000
TWO = ", (SELECT 0 AS k UNION ALL SELECT 1) AS twice"


def made_up() -> list[tuple[Table, str, dict[str, str]]]:
    """Each table, how its rows multiply, and the SQL of its columns; `i` counts the studies."""
    at = f"{START} + i * 30.0"
    empty, nothing = "''", "'{}'"
    tables: list[tuple[Any, str, dict[str, str]]] = [
        (Association, "", {
            "id": "i", "listener": "'here'", "calling_ae_title": "'CT01'",
            "called_ae_title": "'PACSIGHT'", "peer_address": "'10.0.0.17'", "opened_at": at,
            "closed_at": at, "outcome": "'released'"}),
        (ReceivedObject, "", {
            "id": "i", "association_id": "i", "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.1.1'",
            "sop_instance_uid": "'1.2.826.0.1.3.' || i", "transfer_syntax_uid": f"'{EXPLICIT}'",
            "segment": "'abcd1234-17-1-' || (i / 200) || '-1.seg'", "offset": "(i % 200) * 1000000",
            "size": "1000000", "received_at": at, "priority": "0", "state": "'indexed'",
            "sha256": "'" + "e" * 64 + "'"}),
        (Study, "", {
            "id": "i", "study_instance_uid": "'1.2.826.0.1.1.' || i",
            "patient_id": "'P' || (i % 400000)", "patient_name": "'Family^' || (i % 5000)",
            "patient_birth_date": "'19700101'", "patient_sex": "'F'",
            "accession_number": "'A' || i", "study_date": "'20260101'", "study_time": empty,
            "study_description": "'Chest'", "first_received_at": at, "last_received_at": at}),
        (PatientClaim, "", {
            "id": "i", "study_id": "i", "number": "1", "patient_id": "'P' || (i % 400000)",
            "patient_name": "'Family^' || (i % 5000)", "patient_birth_date": "'19700101'",
            "is_accepted": "true", "first_received_at": at}),
        (Series, "", {
            "id": "i", "study_id": "i", "series_instance_uid": "'1.2.826.0.1.2.' || i",
            "modality": "'DX'", "body_part_examined": "'CHEST'", "series_description": empty,
            "series_number": "1"}),
        (Revision, "", {
            "id": "i", "study_id": "i", "number": "1", "reason_code": "'SOURCE_COUNT_REACHED'",
            "reason": "'The source holds as many.'", "confidence": f"'{Confidence.PROVEN}'",
            "is_stat": "false", "created_at": at, "started_at": at}),
        (Instance, "", {
            "id": "i", "series_id": "i", "received_object_id": "i",
            "sop_instance_uid": "'1.2.826.0.1.3.' || i", "version": "1", "is_current": "true",
            "sha256": "'" + "e" * 64 + "'",
            "facts": "'{\"modality\": \"DX\", \"rows\": 3000, \"columns\": 2500}'",
            "patient_claim": "1", "revision_id": "i"}),
        (Decision, "", {
            "id": "i", "revision_id": "i", "model_id": "'cxr-pneumonia'",
            "model_version": "'1.0.0'", "model_digest": "'" + "d" * 64 + "'",
            "is_accepted": "true", "sop_instance_uids": "'[\"1.2.826.0.1.3.1\"]'",
            "created_at": at}),
        (Job, ", (SELECT 'route' AS k UNION ALL SELECT 'predict' UNION ALL SELECT 'encode' "
              "UNION ALL SELECT 'deliver') AS stages", {
            "id": "k || ':' || i", "revision_id": "i", "stage": "k", "subject": "'study'",
            "state": "'done'", "created_at": at, "started_at": at, "finished_at": at}),
        (PredictionRow, "", {
            "id": "i", "decision_id": "i", "sop_instance_uid": "'1.2.826.0.1.3.' || i",
            "summary": nothing, "artifact": "'artifacts/' || i || '/a.npz'", "seconds": "0.1",
            "created_at": at}),
        (ResultObjectRow, TWO, {
            "id": "2 * i + k", "decision_id": "i", "kind": "'sr'", "variant": empty,
            "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.88.34'",
            "sop_instance_uid": "'1.2.826.0.1.4.' || (2 * i + k)",
            "series_instance_uid": "'1.2.826.0.1.5.' || (2 * i + k)",
            "path": "'results/' || i || '/' || k || '.dcm'", "size": "20000",
            "sha256": "'" + "f" * 64 + "'", "created_at": at}),
        (Delivery, TWO, {
            "id": "2 * i + k", "result_object_id": "2 * i + k", "destination": "'pacs'",
            "state": "'delivered'", "attempts": "1", "last_status": "0", "queued_at": at,
            "delivered_at": at, "proof": f"'{Proof.COMMITMENT}'"}),
        (Event, ", (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 "
                "UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7) "
                "AS eight", {
            "id": "8 * i + k", "at": at, "actor": "'worker'", "action": "'study.complete'",
            "subject": "'1.2.826.0.1.1.' || i", "detail": nothing, "number": "8 * i + k - 7",
            "digest": "'" + "c" * 64 + "'"}),
        (WorklistRow, "", {
            "study_id": "i", "received_at": at, "state": "'done'", "instances": "1",
            "modalities": "'[\"DX\"]'", "models": "'[\"cxr-pneumonia\"]'", "findings": "'[]'"}),
        (StudyTag, ", (SELECT 'family' AS k UNION ALL SELECT 'p' || 1 UNION ALL SELECT 'a' || 1) "
                   "AS words", {
            "kind": "'word'", "value": "k", "received_at": at, "study_id": "i"}),
    ]  # fmt: skip
    return [(one.__table__, more, columns) for one, more, columns in tables]


def fill(url: str, studies: int) -> None:
    """Make a ledger of finished studies in SQL, one statement a table, without syncs."""
    engine = open_database(url)
    migrate(engine)
    is_sqlite = engine.dialect.name == "sqlite"
    fast = ("synchronous=OFF", "cache_size=-1500000", "foreign_keys=OFF")
    with engine.connect() as connection:
        guards: list[tuple[str, str]] = []
        if is_sqlite:
            driver: Any = connection.connection.driver_connection
            for pragma in fast:
                driver.execute(f"PRAGMA {pragma}")
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            guards = [tuple(row) for row in driver.execute(query)]
            for name, _ in guards:  # they let nobody write events that are sealed already
                driver.execute(f"DROP TRIGGER {name}")
        else:
            connection.execute(text("SET session_replication_role = replica"))  # no checks of keys
            connection.commit()
        for table, more, columns in made_up():
            connection.execute(text(_insertion(table, more, columns, studies, is_sqlite)))
            connection.commit()
        for _, sql in guards:
            driver.execute(sql)
        if not is_sqlite:
            for table, _, columns in made_up():
                if "id" in columns and "k ||" not in columns["id"]:
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    top = f'(SELECT max(id) FROM "{table.name}")'
                    connection.execute(text(f"SELECT setval({sequence}, {top})"))
            connection.commit()
    if not is_sqlite:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does; SQLite has none
    engine.dispose()


def _insertion(
    table: Table, more: str, columns: dict[str, str], studies: int, is_sqlite: bool
) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(
        f"CAST({sql} AS JSON)" if not is_sqlite and _is_json(table, name) else sql
        for name, sql in columns.items()
    )
    numbers = NUMBERS.format(studies=studies)
    return f'{numbers} INSERT INTO "{table.name}" ({names}) SELECT {values} FROM n{more}'


def _is_json(table: Table, name: str) -> bool:
    return "JSON" in str(table.c[name].type).upper()


class Costs:
    """Milliseconds of each step, study by study."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[str, list[float]] = defaultdict(list)
        self.server_cpu = 0.0
        """of all rounds together, in seconds"""

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        before, used = time.perf_counter(), time.process_time()
        yield
        self.wall[name].append((time.perf_counter() - before) * 1000)
        self.cpu[name].append((time.process_time() - used) * 1000)


def server_seconds(engine: Engine) -> float:
    """Return the CPU seconds of the PostgreSQL backends of this database."""
    total = 0.0
    for process in psutil.process_iter(["name", "cmdline"]):
        with suppress(psutil.Error):
            title = " ".join(process.info["cmdline"] or ())
            if process.info["name"] == "postgres" and f" {engine.url.database} " in title:
                times = process.cpu_times()
                total += times.user + times.system
    return total


def receive(spool: Spool, writer: LedgerWriter, association: AssociationRecord, now: float) -> None:
    """Sync an object and commit its row."""
    ds = radiograph()
    data = data_set_bytes(ds)
    slot = spool.begin(
        encode_file_meta(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT, "CT01"),
        memoryview(bytearray(1 << 16)),
    )
    slot.room(len(data))[: len(data)] = data
    slot.advance(len(data))
    place = slot.seal()
    writer.insert([(association, {
        "sop_class_uid": str(ds.SOPClassUID), "sop_instance_uid": str(ds.SOPInstanceUID),
        "transfer_syntax_uid": EXPLICIT, "segment": place.segment, "offset": place.offset,
        "size": place.size, "received_at": now, "priority": 0, "state": "received",
    })])  # fmt: skip


def one_more(
    engine: Engine, folder: Path, spool: Spool, writer: LedgerWriter, costs: Costs
) -> None:
    """Take one study through the ledger."""
    now = time.time() - 3600
    association = AssociationRecord("here", "CT01", "PACSIGHT", "10.0.0.17", now)
    with costs.of("commit before Success"):
        receive(spool, writer, association, now)
    assert association.id is not None
    writer.close_associations([AssociationEnd(association.id, "released", now)])
    with costs.of("index"):
        assert index_received(engine, folder / "spool", now=now) == 1
    with costs.of("complete"):
        (revision_id,) = close_complete_studies(
            engine, CompletenessConfig(quiet_s=1), now=now + 1800
        )
    with costs.of("route, predict, encode"):
        decision_id = _analyse(engine, revision_id, now)
    with costs.of("outbox"):
        _deliver(engine, revision_id, decision_id, now)
    with costs.of("proof"):
        with transaction(engine) as session:
            sent = proofs.claim_unproven(session, "pacs", now=now + 60, lease_s=60)
        assert len(sent) == 2
        with transaction(engine) as session:
            proofs.note_request(session, sent, f"2.25.{decision_id}", now + 90)
        with transaction(engine) as session:
            held = {one.sop_instance_uid for one in sent}
            assert proofs.note_report(session, f"2.25.{decision_id}", held, {}, now)
    with costs.of("worklist"):
        refresh_worklist(engine)
    with costs.of("a tick with nothing to do"):
        index_received(engine, folder / "spool", now=now)
        close_complete_studies(engine, CompletenessConfig(), now=now)
        with reading(engine) as session:
            session.execute(select(Revision.id).where(Revision.started_at.is_(None))).all()
            due_deliveries(session, now)
        refresh_worklist(engine)


def _analyse(engine: Engine, revision_id: int, now: float) -> int:
    """Write what the three stages write, in as many transactions."""
    with transaction(engine) as session:
        job_queued(session, Work(Stage.ROUTE, revision_id), "study", now)
    with transaction(engine) as session:
        session.get_one(Revision, revision_id).started_at = now
    with transaction(engine) as session:
        job_started(session, Work(Stage.ROUTE, revision_id), now)
    with transaction(engine) as session:
        decision = Decision(
            revision_id=revision_id, model_id="cxr-pneumonia", model_version="1.0.0",
            model_digest="d" * 64, is_accepted=True, sop_instance_uids=["1.2"], created_at=now,
        )  # fmt: skip
        session.add(decision)
        session.flush()
        job_queued(session, Work(Stage.PREDICT, revision_id, decision.id), "cxr-pneumonia", now)
    with transaction(engine) as session:
        job_done(session, Work(Stage.ROUTE, revision_id), now)
    for stage in (Stage.PREDICT, Stage.ENCODE):
        work = Work(stage, revision_id, decision.id)
        with transaction(engine) as session:
            job_queued(session, work, "cxr-pneumonia", now)
            job_started(session, work, now)
        with transaction(engine) as session:
            if stage is Stage.PREDICT:
                session.add(
                    PredictionRow(
                        decision_id=decision.id, sop_instance_uid="1.2", artifact="a", seconds=1,
                        summary={"findings": [], "boxes": [], "segments": []}, created_at=now,
                    )
                )  # fmt: skip
            else:
                _queue_results(session, decision.id, now)
        with transaction(engine) as session:
            job_done(session, work, now)
    return decision.id


def _queue_results(session: Any, decision_id: int, now: float) -> None:
    for kind in ("sr", "sc"):
        item = ResultObjectRow(
            decision_id=decision_id, kind=kind, sop_class_uid="1.2.3", size=20000,
            sop_instance_uid=f"1.2.3.{decision_id}.{kind == 'sr':d}", sha256="f" * 64,
            series_instance_uid="1.2", path="results/1/x.dcm", created_at=now,
        )  # fmt: skip
        session.add(item)
        session.flush()
        session.add(
            Delivery(
                result_object_id=item.id, destination="pacs", state=DeliveryState.PENDING,
                attempts=0, queued_at=now, next_attempt_at=now,
            )
        )  # fmt: skip


def _deliver(engine: Engine, revision_id: int, decision_id: int, now: float) -> None:
    with reading(engine) as session:
        (work,) = due_deliveries(session, now)
    assert (work.revision_id, work.decision_id) == (revision_id, decision_id)
    with transaction(engine) as session:
        job_queued(session, work, "pacs", now)
    with transaction(engine) as session:
        mark_started(session, work)
    with transaction(engine) as session:
        job_started(session, work, now)
    with transaction(engine) as session:
        for row, item, _ in pending(session, work):
            receipt = DeliveryReceipt(item.sop_instance_uid, Outcome.ACCEPTED, "STORED", "", 0)
            settle(row, receipt, attempt=work.attempt, rules=DeliveryConfig(), now=now)
            record(
                session, actor="pacs", action="delivery.delivered", subject=item.sop_instance_uid,
                detail={"attempt": 1}, now=now,
            )  # fmt: skip
    with transaction(engine) as session:
        job_done(session, work, now)


def hand_over(url: str, count: int) -> float:
    """Return milliseconds to hand a unit of work to the engine, in its own tables."""
    engine = DurableEngine(url, executor_id="bench", perform=lambda work: [], concurrency={})
    engine.start()
    before = time.perf_counter()
    for number in range(count):
        engine.submit(Work(Stage.PREDICT, 1, number))
    took = time.perf_counter() - before
    engine.stop(0)
    return took / count * 1000


def busy_tick(
    engine: Engine, folder: Path, spool: Spool, writer: LedgerWriter
) -> tuple[float, float]:
    """Return milliseconds to index one of many objects, and to look at a thousand open studies."""
    association = AssociationRecord("here", "CT01", "PACSIGHT", "10.0.0.17", time.time())
    for _ in range(OPEN):
        receive(spool, writer, association, time.time())
    before = time.perf_counter()
    while index_received(engine, folder / "spool", now=time.time()):
        pass
    indexed = (time.perf_counter() - before) * 1000 / OPEN
    reader = EvidenceReader()
    looks = []
    for _ in range(5):
        before = time.perf_counter()
        rules = CompletenessConfig(quiet_s=3600, stack_quiet_s=3600, missing_quiet_s=3600)
        assert close_complete_studies(engine, rules, now=time.time(), reader=reader) == []
        looks.append((time.perf_counter() - before) * 1000)
    return indexed, statistics.median(looks[1:])


def measure(url: str, folder: Path, studies: int, rounds: int) -> tuple[Costs, dict[str, str]]:
    """Return the costs, and single figures: size, hand-over, a busy tick, a look of retention."""
    engine = open_database(url)
    spool = Spool(folder / "spool", segment_bytes=1 << 28, reserve_bytes=0)
    writer = LedgerWriter(engine, timeout_s=5)
    costs = Costs()
    for number in range(rounds + 5):
        if number == 5:
            costs = Costs()  # warm
            served = server_seconds(engine)
        one_more(engine, folder, spool, writer, costs)
    costs.server_cpu = server_seconds(engine) - served
    figures = {f"{hand_over(_engine_url(url, folder), rounds):.2f} ms": "hand a unit to the engine"}
    indexed, tick = busy_tick(engine, folder, spool, writer)
    figures[f"{indexed:.3f} ms"] = "index one of many objects, each a study of its own"
    figures[f"{tick:.1f} ms"] = f"a look at {OPEN} open studies"
    writer.close()
    spool.close()
    settings = Settings(data_dir=folder, retention=RetentionConfig(keep_days=1))
    series = f"1.2.826.0.1.5.{studies}"
    for asked in (("Modality", "SR"), ("Modality", "SEG"), ("SeriesInstanceUID", series)):
        took = min(search(engine, *asked) for _ in range(2))
        figures[f"{took:.2f} ms"] = f"QIDO-RS: {' '.join(asked)}"
    before = time.perf_counter()
    retention = Retention(settings, engine, lambda: START + 30.0 * studies / 1000 + 86400)
    retention.once(is_dry=True)
    look = time.perf_counter() - before
    figures[f"{look:.2f} s"] = "a look of retention at everything"
    figures[f"{_size(engine):,.0f} MB"] = "the ledger"
    engine.dispose()
    return costs, figures


def search(engine: Engine, keyword: str, value: str) -> float:
    """Return milliseconds to find the studies of what a viewer asks for by QIDO-RS."""
    question = parse("series", [(keyword, value)])
    before = time.perf_counter()
    with reading(engine) as session:
        session.scalars(fitting(session, question, limit=101).limit(101)).all()
    return (time.perf_counter() - before) * 1000


def _engine_url(url: str, folder: Path) -> str:
    return url if url.startswith("postgresql") else f"sqlite:///{folder}/engine.sqlite"


def _size(engine: Engine) -> float:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            pages = connection.scalar(text("SELECT page_count FROM pragma_page_count"))
            return int(pages or 0) * 4096 / 1e6
        return int(connection.scalar(text("SELECT pg_database_size(current_database())"))) / 1e6


def print_costs(database: str, studies: int, costs: Costs, figures: dict[str, str]) -> None:
    """Print medians, and the single figures."""
    wall = {name: statistics.median(of) for name, of in costs.wall.items()}
    cpu = {name: statistics.median(of) for name, of in costs.cpu.items()}
    print(f"{database}, {studies:,} studies: wall ms, CPU ms of this process")
    for name in wall:
        print(f"  {wall[name]:8.2f} {cpu[name]:8.2f}  {name}")
    idle = "a tick with nothing to do"
    print(
        f"  {sum(wall.values()) - wall[idle]:8.2f} {sum(cpu.values()) - cpu[idle]:8.2f}  together"
    )
    if database == "postgres":
        each = costs.server_cpu / len(costs.wall[idle]) * 1000
        print(f"  {'':8} {each:8.2f}  CPU of PostgreSQL's backends, tick included")
    for value, name in figures.items():
        print(f"  {value:>11}  {name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--studies", default="1000,1000000")
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    server = Postgres() if options.database == "postgres" else None
    if server is not None:
        server.start()
    try:
        for studies in map(int, options.studies.split(",")):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                url = server.create_database() if server else f"sqlite:///{folder}/ledger.sqlite"
                fill(url, studies)
                costs, figures = measure(url, folder, studies, options.rounds)
            print_costs(options.database, studies, costs, figures)
    finally:
        if server is not None:
            server.stop()


if __name__ == "__main__":
    main()
