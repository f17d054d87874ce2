"""What retention removes, what it never removes, and that a kill in between loses nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, update

from ledger import retention as ledger_retention
from ledger.database import reading, transaction
from ledger.domain import DeliveryState, JobState, ObjectState
from ledger.errors import StoreError
from ledger.store import FolderStore, open_store
from ledger.tables import (
    CommitmentRequest,
    Decision,
    Delivery,
    Job,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Study,
)
from pacsight.health import examine
from pacsight.retention import Retention
from pacsight.settings import RetentionConfig, Settings
from scp.commitment import answer_to
from scp.config import CompletenessConfig
from scp.errors import StudyExpiredError
from scp.indexer import index_received
from scp.revisions import close_complete_studies, replay_study
from scp.sweeping import COMPACT_AFTER_S, GRACE_S
from scp.sweeping import sweep as sweep_files
from tests.pacsight.archive import DAY_S, NOW, Archive
from tests.peers.s3 import S3
from tests.scp.received import radiograph

Archived = Callable[..., Archive]


@pytest.fixture
def archive(engine: Engine, tmp_path: Path) -> Archived:
    return lambda **rules: Archive(engine, tmp_path, **rules)


def test_old_study_goes_with_its_files_and_its_words_stay(archive: Archived) -> None:
    box = archive(keep_days=30)
    spool = box.segment()
    old = box.study(spool, at=NOW - 40 * DAY_S)
    spool.close()
    spool = box.segment()
    young = box.study(spool, at=NOW - 20 * DAY_S)
    spool.close()
    box.age()
    before = [box.segments(), box.results()]
    dry = box.run(is_dry=True)
    assert [one.study_instance_uid for one in dry.by_age] == [old]
    assert [box.segments(), box.results()] == before
    assert box.get(old).expired_at is None
    done = box.run()
    assert done.by_age == dry.by_age
    assert (done.swept.files, len(box.segments())) == (1, 1)
    assert done.swept.freed_bytes > 0
    assert len(box.results()) == 2  # of the young one
    assert (box.readable(old), box.readable(young)) == (0, 2)
    with reading(box.engine) as session:
        assert session.query(Decision).count() == session.query(Delivery).count() == 2
    with reading(box.engine) as session, pytest.raises(StudyExpiredError):
        replay_study(session, box.get(old), now=NOW, stat_rules=())
    assert box.run().by_age == []


def unfinished(box: Archive) -> dict[str, Callable[[Any, Study, Revision], None]]:
    """What speaks against giving a study up, as the ledger tells it."""

    def delivery(**values: Any) -> Callable[[Any, Study, Revision], None]:
        def change(session: Any, study: Study, revision: Revision) -> None:
            results = (
                select(ResultObjectRow.id).join(Decision).where(Decision.revision_id == revision.id)
            )
            session.execute(
                update(Delivery).where(Delivery.result_object_id.in_(results)).values(**values)
            )

        return change

    def job(state: JobState) -> Callable[[Any, Study, Revision], None]:
        return lambda session, study, revision: session.add(
            Job(
                id=f"predict:{revision.id}", revision_id=revision.id, stage="predict",
                subject="m", state=state, created_at=0,
            )
        )  # fmt: skip

    def set_on(name: str, value: Any) -> Callable[[Any, Study, Revision], None]:
        def change(session: Any, study: Study, revision: Revision) -> None:
            setattr(study if hasattr(study, name) else revision, name, value)

        return change

    def without_delivery(session: Any, study: Study, revision: Revision) -> None:
        results = (
            select(ResultObjectRow.id).join(Decision).where(Decision.revision_id == revision.id)
        )
        session.query(Delivery).filter(Delivery.result_object_id.in_(results)).delete()

    return {
        "HELD": set_on("held_code", "PATIENTS_DIFFER"),
        "IN_WORK": job(JobState.RUNNING),
        "IN_WORK ": set_on("started_at", None),
        "IN_WORK  ": set_on("open_since", 5.0),
        "FAILED": job(JobState.FAILED),
        "DEAD_LETTER": delivery(state=DeliveryState.DEAD),
        "NOT_DELIVERED": delivery(state=DeliveryState.PENDING),
        "NOT_PROVEN": delivery(proof=None),
        "NOT_SENT": without_delivery,
    }


def test_what_is_in_work_undelivered_or_held_is_never_touched(archive: Archived) -> None:
    box = archive(keep_days=30, keep_bytes=0)
    spool = box.segment()
    changes = unfinished(box)
    kept = {code: box.study(spool, at=0.0) for code in changes}
    gone = box.study(spool, at=0.0)
    refused = box.study(spool, at=0.0)  # no model wants it: visibly refused
    with transaction(box.engine) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == refused)).one()
        revision = session.scalars(select(Revision).where(Revision.study_id == study.id)).one()
        decision = session.scalars(
            select(Decision).where(Decision.revision_id == revision.id)
        ).one()
        decision.is_accepted = False
    box.store_objects(spool, damaged())
    index_received(box.engine, box.settings.spool_dir, now=1.0)
    spool.close()
    for code, change in changes.items():
        with transaction(box.engine) as session:
            uid = kept[code]
            study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
            revision = session.scalars(select(Revision).where(Revision.study_id == study.id)).one()
            change(session, study, revision)
    box.age()
    done = box.run()
    assert {one.study_instance_uid for one in done.by_age} == {gone, refused}
    assert done.by_size == []
    assert set(done.kept_because) == {code.strip() for code in kept}
    assert done.kept_because["IN_WORK"] == 3
    assert all(box.readable(uid) == 2 for uid in kept.values())
    with reading(box.engine) as session:
        assert session.query(ReceivedObject).filter_by(state="quarantined").count() == 1


def test_a_study_is_judged_by_its_own_rows(sqlite_engine: Engine) -> None:
    """Not by all that ever were in a state, which for each of many studies takes for ever."""

    def explain(_: object, __: object, statement: str, values: Any, *___: object) -> Any:
        return f"EXPLAIN QUERY PLAN {statement}", values

    with sqlite_engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain, retval=True)
        plan = connection.execute(ledger_retention.removable(NOW, 100)).cursor.fetchall()
    steps = [row[3] for row in plan]
    assert any("ix_study_present" in step for step in steps)
    assert not [step for step in steps if "_state" in step or step.startswith("SCAN")]


def damaged() -> Any:
    ds = radiograph()
    ds.StudyInstanceUID = ""
    return ds


def test_beyond_the_size_the_oldest_go_until_it_fits(archive: Archived) -> None:
    box = archive(keep_bytes=3000)
    spool = box.segment()
    uids = [box.study(spool, at=day * DAY_S) for day in (3, 1, 2)]
    young = box.study(spool, at=NOW - 60)  # never that young
    with reading(box.engine) as session:
        total = ledger_retention.kept_bytes(session)
    one = total // 4
    box.settings = Settings(
        data_dir=box.folder, retention=RetentionConfig(keep_bytes=total - one - one // 2)
    )
    preview = [each.study_instance_uid for each in box.run(is_dry=True).by_size]
    done = box.run()
    assert [each.study_instance_uid for each in done.by_size] == [uids[1], uids[2]] == preview
    with reading(box.engine) as session:
        assert ledger_retention.kept_bytes(session) <= total - one - one // 2
    box.settings = Settings(data_dir=box.folder, retention=RetentionConfig(keep_bytes=0))
    box.run()
    assert (box.readable(uids[0]), box.readable(young)) == (0, 2)
    spool.close()


def test_files_of_a_living_writer_and_of_what_is_unread_stay(archive: Archived) -> None:
    box = archive(keep_days=0)
    spool = box.segment()
    box.study(spool, at=0.0)
    box.age(5 * DAY_S)
    box.run()
    assert len(box.segments()) == 1  # everything in it is given up, but it may still grow
    box.store_objects(spool, radiograph(), at=0.0)
    spool.close()
    box.age(5 * DAY_S)
    box.run()
    assert len(box.segments()) == 1  # its header has not been read
    index_received(box.engine, box.settings.spool_dir, now=NOW)
    with transaction(box.engine) as session:
        session.execute(update(ReceivedObject).values(state=ObjectState.DUPLICATE))
    box.age(GRACE_S / 2)
    box.run()
    assert len(box.segments()) == 1  # too young
    box.age()
    box.run()
    assert box.segments() == []


def test_the_little_that_is_kept_moves_out_of_an_old_segment(archive: Archived) -> None:
    box = archive(keep_days=30)
    spool = box.segment()
    kept = box.study(spool, at=0.0, images=1)
    for _ in range(3):
        box.study(spool, at=0.0)
    spool.close()
    with transaction(box.engine) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == kept)).one()
        study.held_code = "PATIENTS_DIFFER"
    box.age(2 * COMPACT_AFTER_S)
    (old,) = box.segments()
    old_size = old.stat().st_size
    box.run()
    assert len(box.segments()) == 2
    assert box.readable(kept) == 1  # from the new one
    box.age()
    box.run()
    (new,) = box.segments()
    assert new != old
    assert new.stat().st_size < old_size / 6
    assert box.readable(kept) == 1


def test_study_that_comes_again_is_here_again(archive: Archived) -> None:
    box = archive(keep_days=30)
    spool = box.segment()
    images = [radiograph(StudyInstanceUID="1.2.77") for _ in range(2)]
    uid = box.study(spool, at=0.0)
    box.store_objects(spool, *images, at=0.0)
    index_received(box.engine, box.settings.spool_dir, now=0.0)
    rules = CompletenessConfig(quiet_s=0, stack_quiet_s=0, missing_quiet_s=0)
    (revision_id,) = close_complete_studies(box.engine, rules, now=1e4)
    with transaction(box.engine) as session:
        session.get_one(Revision, revision_id).started_at = 0.0
    box.run()
    assert (box.readable(uid), box.readable("1.2.77")) == (0, 0)
    asked = [[str(one.SOPClassUID), str(one.SOPInstanceUID)] for one in images]
    request = CommitmentRequest(transaction_uid="1.2", calling_ae_title="CT", instances=asked)
    with reading(box.engine) as session:
        assert answer_to(session, request)[0] == 2  # we no longer vouch for it
    box.store_objects(spool, *images, at=NOW)
    index_received(box.engine, box.settings.spool_dir, now=NOW)
    spool.close()
    assert (box.get("1.2.77").expired_at, box.readable("1.2.77")) == (None, 2)
    with reading(box.engine) as session:
        assert answer_to(session, request)[0] == 1
    with transaction(box.engine) as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == "1.2.77")).one()
        assert study.open_since is None  # the same again changes nothing
        assert replay_study(session, study, now=NOW, stat_rules=()) == 2
    assert box.run().by_age == []


KILLED = """
import os, signal, sys
from pathlib import Path
from ledger.database import open_database
from ledger.store import FolderStore
from pacsight.retention import Retention
from pacsight.settings import RetentionConfig, Settings

class Deadly(FolderStore):
    def delete(self, keys):
        super().delete(keys[:1])
        os.kill(os.getpid(), signal.SIGKILL)

settings = Settings(data_dir=Path(sys.argv[2]), retention=RetentionConfig(keep_days=30))
retention = Retention(settings, open_database(sys.argv[1]), lambda: float(sys.argv[3]))
retention._store = Deadly(Path(sys.argv[2]))
retention.once()
"""


def test_kill_between_the_ledger_and_the_files_leaves_nothing_behind(
    sqlite_engine: Engine, sqlite_url: str, tmp_path: Path
) -> None:
    box = Archive(sqlite_engine, tmp_path, keep_days=30)
    spool = box.segment()
    uid = box.study(spool, at=0.0)
    spool.close()
    box.age()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, sqlite_url, str(tmp_path), str(NOW)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert box.get(uid).expired_at == NOW  # the ledger no longer vouches for it
    assert len(box.results()) == 1
    assert len(box.segments()) == 1
    stray = next(check for check in examine(box.settings) if check.name == "spool")
    assert "1 stray segments" in stray.message
    box.run()
    assert box.results() == box.segments() == []


def test_store_that_can_not_be_reached_is_tried_again(
    sqlite_engine: Engine, tmp_path: Path
) -> None:
    box = Archive(sqlite_engine, tmp_path, keep_days=30)
    spool = box.segment()
    box.study(spool, at=0.0)
    spool.close()

    class Down(FolderStore):
        def delete(self, keys: Any) -> None:
            raise StoreError("down")

    retention = Retention(box.settings, box.engine, lambda: NOW)
    retention._store = Down(tmp_path)
    with pytest.raises(StoreError):
        retention.once()
    assert len(box.results()) == 2
    box.run()
    assert box.results() == []


@pytest.mark.peer
def test_packs_of_given_up_studies_leave_the_object_store(
    sqlite_engine: Engine, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Archive(sqlite_engine, tmp_path, keep_days=30)
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    store = open_store(s3.create_bucket(), tmp_path)
    spool = box.segment()
    ds = radiograph()
    box.store_objects(spool, ds, at=0.0)
    index_received(box.engine, box.settings.spool_dir, now=0.0, store=store)
    spool.close()
    (pack,) = store.list("packs/")
    later = pack.changed_at + 2 * GRACE_S
    sweep_files(box.engine, box.settings.spool_dir, store, now=later)
    assert box.segments() == []  # the machine's own copy is no longer needed
    assert [one.key for one in store.list("packs/")] == [pack.key]
    with transaction(box.engine) as session:
        session.execute(update(ReceivedObject).values(state=ObjectState.RECEIVED))
    sweep_files(box.engine, box.settings.spool_dir, store, now=later)
    assert list(store.list("packs/"))  # its rows are not written yet
    with transaction(box.engine) as session:
        session.execute(update(ReceivedObject).values(state=ObjectState.EXPIRED))
    sweep_files(box.engine, box.settings.spool_dir, store, now=later)
    assert list(store.list("packs/")) == []
