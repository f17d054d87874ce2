"""Stages one after another in this process: where bytes lie, who comes back, who answers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import Engine

from dicom_out.destination import Destination
from dicom_out.profile import Profile
from inference.config import InferenceConfig
from inference.model_server import ModelServer
from inference.registry import scan_models
from ledger.database import reading, transaction
from ledger.patients import Patient
from ledger.tables import (
    Decision,
    Delivery,
    Job,
    PredictionRow,
    ReceivedObject,
    ResultObjectRow,
    Study,
)
from pacsight.dispatcher import due_deliveries, mark_started
from pacsight.peers import QueryJournal
from pacsight.samples import chest_radiograph
from pacsight.settings import Settings
from pacsight.stages import perform
from pacsight.stages.context import StageContext
from pacsight.work import Stage, Work, job_queued
from scp.completeness import Confidence, Verdict
from scp.config import CompletenessConfig
from scp.indexer import index_received
from scp.patient_guard import decide_patient
from scp.revisions import REPLAYED, add_revision, close_complete_studies
from scp.segments import IDENTITY
from tests.dicom_out.scripted_pacs import scripted_pacs
from tests.inference.factories import write_model
from tests.scp.received import SEGMENT, Received, radiograph


@pytest.fixture
def context(sqlite_engine: Engine, tmp_path: Path) -> StageContext:
    """One model, and a destination that wants to be told of refusals; packs in a shared folder."""
    write_model(tmp_path / "models")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / IDENTITY).write_text(SEGMENT.split("-", maxsplit=1)[0])
    settings = Settings(
        data_dir=tmp_path,
        object_store_url=f"file://{tmp_path}/shared",
        destinations=(
            Destination(name="pacs", ae_title="P", host="127.0.0.1", port=1, profile="told"),
        ),
        profiles=(Profile(name="told", refusals=True),),
    )
    registry = scan_models(tmp_path / "models")
    models = ModelServer(registry, InferenceConfig(backend="torch"), has_gates=True)
    queries = QueryJournal(sqlite_engine, lambda: 100.0)
    return StageContext(
        settings, sqlite_engine, settings.open_store(), registry, models, lambda: 100.0, queries
    )


def receive(context: StageContext, *objects: Any) -> Work:
    """Receive a study, as one of several machines does, and return the unit that routes it."""
    received = Received(context.database, context.settings.data_dir)
    for ds in objects:
        received.add(ds)
    store = context.settings.open_shared_store()
    index_received(context.database, received.spool, now=1.0, store=store)
    assert all(row.segment.startswith("packs/") for row in received.all(ReceivedObject))
    config = CompletenessConfig(quiet_s=0.0, stack_quiet_s=0.0)
    (revision_id,) = close_complete_studies(context.database, config, now=90.0)
    work = Work(Stage.ROUTE, revision_id)
    with transaction(context.database) as session:
        job_queued(session, work, "study", 90.0)
    return work


def rows_of(context: StageContext, table: type[Any]) -> list[Any]:
    with reading(context.database) as session:
        return list(session.query(table))


def test_refusal_is_written_from_bytes_that_another_machine_received(context: StageContext) -> None:
    work = receive(context, radiograph(BodyPartExamined="HAND"))
    (context.settings.spool_dir / SEGMENT).unlink()
    (encode,) = perform(context, work)
    assert perform(context, encode) == []
    (report,) = reports(context)
    assert report.SeriesDescription.startswith("AI: not analysed")


def test_worker_that_comes_back_from_the_dead_spoils_nothing(context: StageContext) -> None:
    work = receive(context, chest_radiograph(1, consolidation=False))
    (predict,) = perform(context, work)
    answer, other = context.models.predict, []

    def meanwhile(model_id: str, source: Any) -> Any:
        context.models.predict = answer  # type: ignore[method-assign]
        other.extend(perform(context, predict))  # the one that took over is faster
        return answer(model_id, source)

    context.models.predict = meanwhile  # type: ignore[method-assign]
    following = perform(context, predict)
    assert following == other
    assert [one.stage for one in following] == [Stage.ENCODE]
    assert len(rows_of(context, PredictionRow)) == 1
    with reading(context.database) as session:
        assert session.query(Decision).filter(Decision.is_accepted).count() == 1


def test_renamed_patient_gets_new_reports_and_no_new_inference(context: StageContext) -> None:
    follow(context, receive(context, chest_radiograph(1, consolidation=False)))
    (before,) = reports(context)
    answer, asked = context.models.predict, []

    def ask(model_id: str, source: Any) -> Any:
        asked.append(model_id)
        return answer(model_id, source)

    def again(code: str) -> None:
        with transaction(context.database) as session:
            study = session.query(Study).one()
            decide_patient(study, Patient("4711", "Schröder^Änne", "19500101"), "pacs")
            revision = add_revision(session, study, Verdict(code, "", Confidence.LIKELY), 100.0)
            work = Work(Stage.ROUTE, revision.id)
            job_queued(session, work, "study", 100.0)
        follow(context, work)

    context.models.predict = ask  # type: ignore[method-assign]
    again("PATIENT_RENAMED")
    assert asked == []
    old, new = rows_of(context, PredictionRow)
    assert (old.summary, old.artifact != new.artifact) == (new.summary, True)
    assert context.store.get(old.artifact) == context.store.get(new.artifact)
    (renamed,) = [one for one in reports(context) if one.SOPInstanceUID != before.SOPInstanceUID]
    assert str(renamed.PatientName) == "Schröder^Änne" != str(before.PatientName)
    (study,) = renamed.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == before.SOPInstanceUID
    again(REPLAYED)
    assert len(asked) == 1  # an operator wants to see it done


def test_only_the_very_model_that_was_chosen_answers(context: StageContext) -> None:
    (predict,) = perform(context, receive(context, chest_radiograph(1, consolidation=False)))
    with transaction(context.database) as session:
        session.get_one(Decision, predict.decision_id).model_digest = "of the release before"
    assert perform(context, predict) == []
    (job,) = [one for one in rows_of(context, Job) if one.stage == Stage.PREDICT]
    assert (job.state, job.error_code) == ("failed", "STAGE_INPUT_MISSING")
    assert not rows_of(context, PredictionRow)


def test_answer_to_a_late_image_names_the_refusal_that_it_supersedes(context: StageContext) -> None:
    hand, chest = (chest_radiograph(seed, consolidation=False) for seed in (1, 2))
    hand.BodyPartExamined = "HAND"
    chest.StudyInstanceUID, chest.SeriesInstanceUID = hand.StudyInstanceUID, "1.2.3"
    follow(context, receive(context, hand))
    (refusal,) = reports(context)
    follow(context, receive(context, chest))
    (report,) = [one for one in reports(context) if one.SOPInstanceUID != refusal.SOPInstanceUID]
    (study,) = report.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == refusal.SOPInstanceUID


def test_peer_without_compression_gets_the_plain_bytes_then_and_at_every_retry(
    context: StageContext,
) -> None:
    def full_at_first(event: Any, number: int) -> int:
        return 0xA700 if number <= 2 else 0x0000  # both objects of the first attempt

    with scripted_pacs(full_at_first) as pacs:
        to = Destination(
            name="pacs", ae_title="P", host="127.0.0.1", port=pacs.port, profile="packed",
            checks_patient=False,
        )  # fmt: skip
        packed = Profile(name="packed", transfer_syntax="rle")
        settings = context.settings.model_copy(
            update={"destinations": (to,), "profiles": (packed,)}
        )
        context = replace(context, settings=settings)
        follow(context, receive(context, chest_radiograph(1, consolidation=False)))
        assert [one.encoding_id is not None for one in rows_of(context, Delivery)] == [False, True]
        for attempt in (1, 2):
            with reading(context.database) as session:
                (work,) = due_deliveries(session, now=1e9)
            with transaction(context.database) as session:
                job_queued(session, work, "study", 100.0)
                mark_started(session, work)
            assert work.attempt == attempt
            assert perform(context, work) == []
            assert all(one.encoding_id is None for one in rows_of(context, Delivery))
    assert {one.state for one in rows_of(context, Delivery)} == {"delivered"}
    first, again = pacs.data_sets[:2], pacs.data_sets[2:]
    assert first == again
    kinds = ("sr", "sc")
    written = [context.store.get(one.path) for one in rows_of(context, ResultObjectRow)
               if one.kind in kinds]  # fmt: skip
    assert all(whole.endswith(sent) for whole, sent in zip(written, again, strict=True))


def follow(context: StageContext, work: Work) -> None:
    """Do a unit and all that follow."""
    for following in perform(context, work):
        follow(context, following)


def reports(context: StageContext) -> list[Dataset]:
    rows = [one for one in rows_of(context, ResultObjectRow) if one.kind in ("sr", "refusal")]
    return [dcmread(io.BytesIO(context.store.get(row.path))) for row in rows]
