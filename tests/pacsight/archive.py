"""Studies that were received long ago, with results, in a real ledger and spool."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import Engine, select

from ledger.database import reading, transaction
from ledger.domain import DeliveryState, ObjectState, Proof
from ledger.store import FolderStore
from ledger.tables import (
    Decision,
    Delivery,
    Instance,
    PredictionRow,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from pacsight.retention import Outcome, Retention
from pacsight.settings import RetentionConfig, Settings
from scp.config import CompletenessConfig
from scp.indexer import index_received
from scp.part10 import encode_file_meta
from scp.revisions import close_complete_studies
from scp.spool import Spool, open_object
from scp.sweeping import GRACE_S
from tests.scp.received import Received, data_set_bytes, radiograph

DAY_S = 86400.0
NOW = 100 * DAY_S


class Archive:
    """Studies that were received long ago into segments of a real spool."""

    def __init__(self, engine: Engine, folder: Path, **rules: Any) -> None:
        self.engine, self.folder = engine, folder
        self.settings = Settings(data_dir=folder, retention=RetentionConfig(**rules))
        self.received = Received(engine, folder)
        self.store = FolderStore(folder)
        self.now = NOW

    def segment(self) -> Spool:
        return Spool(self.settings.spool_dir, segment_bytes=1 << 20, reserve_bytes=0)

    def store_objects(self, spool: Spool, *datasets: Any, at: float = 0.0) -> None:
        """Append objects to one segment, as a listener does."""
        association = self.received.association()
        for ds in datasets:
            data = data_set_bytes(ds)
            meta = encode_file_meta(ds.SOPClassUID, ds.SOPInstanceUID, "1.2.840.10008.1.2.1", "CT")
            writer = spool.begin(meta, memoryview(bytearray(1 << 16)))
            writer.room(len(data))[: len(data)] = data
            writer.advance(len(data))
            place = writer.seal()
            with transaction(self.engine) as session:
                session.add(
                    ReceivedObject(
                        association_id=association, sop_class_uid=ds.SOPClassUID,
                        sop_instance_uid=ds.SOPInstanceUID,
                        transfer_syntax_uid="1.2.840.10008.1.2.1", segment=place.segment,
                        offset=place.offset, size=place.size, received_at=at,
                        state=ObjectState.RECEIVED.value,
                    )
                )  # fmt: skip

    def study(self, spool: Spool, *, at: float = 0.0, images: int = 2) -> str:
        """Receive a study, declare it complete, and give it a delivered, proven result."""
        uid = generate_uid()
        for _ in range(images):
            self.store_objects(spool, radiograph(StudyInstanceUID=uid), at=at)
        index_received(self.engine, self.settings.spool_dir, now=at)
        rules = CompletenessConfig(quiet_s=0, stack_quiet_s=0, missing_quiet_s=0)
        (revision_id,) = close_complete_studies(self.engine, rules, now=at + 1e4)
        with transaction(self.engine) as session:
            revision = session.get_one(Revision, revision_id)
            revision.started_at = revision.created_at = at
            decision = Decision(
                revision_id=revision_id, model_id="m", model_version="1", model_digest="d",
                is_accepted=True, sop_instance_uids=[], created_at=at,
            )  # fmt: skip
            session.add(decision)
            session.flush()
            artifact, path = f"artifacts/{decision.id}/a.npz", f"results/{decision.id}/r.dcm"
            session.add(
                PredictionRow(
                    decision_id=decision.id, sop_instance_uid="1", summary={}, artifact=artifact,
                    seconds=1, created_at=at,
                )
            )  # fmt: skip
            item = ResultObjectRow(
                decision_id=decision.id, kind="sr", sop_class_uid="1", path=path, size=500,
                sop_instance_uid=generate_uid(), series_instance_uid="1", sha256="", created_at=at,
            )  # fmt: skip
            session.add(item)
            session.flush()
            session.add(
                Delivery(
                    result_object_id=item.id, destination="pacs", state=DeliveryState.DELIVERED,
                    attempts=1, queued_at=at, delivered_at=at, proof=Proof.COMMITMENT,
                )
            )  # fmt: skip
        for key in (artifact, path):
            self.store.put(key, b"x" * 500)
        return uid

    def age(self, seconds: float = 2 * GRACE_S) -> None:
        """Let files look as if nobody had changed them for so long."""
        for path in self.settings.spool_dir.glob("*.seg"):
            os.utime(path, (self.now - seconds, self.now - seconds))

    def run(self, *, is_dry: bool = False) -> Outcome:
        return Retention(self.settings, self.engine, lambda: self.now).once(is_dry=is_dry)

    def segments(self) -> list[Path]:
        return sorted(self.settings.spool_dir.glob("*.seg"))

    def results(self) -> list[Path]:
        return [
            path
            for name in ("results", "artifacts")
            for path in (self.folder / name).rglob("*")
            if path.is_file()
        ]

    def get(self, uid: str) -> Study:
        with reading(self.engine) as session:
            return session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()

    def readable(self, uid: str) -> int:
        """How many images of a study can be read."""
        with reading(self.engine) as session:
            rows = session.scalars(
                select(ReceivedObject)
                .join(Instance)
                .join(Series)
                .join(Study)
                .where(Study.study_instance_uid == uid, ReceivedObject.state == "indexed")
            ).all()
        for row in rows:
            with open_object(
                self.settings.spool_dir, row.segment, row.offset, row.size, self.store
            ) as file:
                assert len(file.read()) == row.size
        return len(rows)
