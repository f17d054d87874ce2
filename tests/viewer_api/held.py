"""A CT study with the results about it, as if a worker had written them."""

from __future__ import annotations

import hashlib
import io
import time
from datetime import UTC, datetime

from pydicom import Dataset, dcmread
from sqlalchemy import select

from ledger.database import transaction
from ledger.tables import Decision, ResultObjectRow, Revision, Study
from ledger.worklist import refresh_worklist
from pacsight.bundles import address
from pacsight.selftest import bundle_of
from pacsight.settings import Settings
from scp.indexer import index_received
from viewer_api.context import WebContext


def part_10(dataset: Dataset) -> bytes:
    with io.BytesIO() as buffer:
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()


def as_file(dataset: Dataset) -> Dataset:
    """Return it as if read from a file: then the client writes the preamble too."""
    return dcmread(io.BytesIO(part_10(dataset)))


def index(context: WebContext) -> None:
    """Do what a worker's loop does, as far as studies are listed by it."""
    while index_received(context.database, context.spool_dir, now=time.time()):
        pass
    while refresh_worklist(context.database):
        pass


def add_results(context: WebContext, slices: list[Dataset]) -> None:
    """Write the self-test's bundle as the results of a revision, each in two variants."""
    now = time.time()
    objects = address(Settings(), bundle_of(slices, datetime.now(UTC)))
    with transaction(context.database) as session:
        study = session.scalars(
            select(Study).where(Study.study_instance_uid == slices[0].StudyInstanceUID)
        ).one()
        revision = Revision(
            study_id=study.id, number=1, reason_code="x", reason="", is_stat=False, created_at=now
        )
        session.add(revision)
        session.flush()
        decision = Decision(
            revision_id=revision.id, model_id="lungs", model_version="1", model_digest="0",
            is_accepted=True, sop_instance_uids=[], created_at=now,
        )  # fmt: skip
        session.add(decision)
        session.flush()
        for variant in ("", "utf-8"):
            for one in objects:
                uid = one.item.sop_instance_uid + ("" if not variant else ".9")
                context.store.put(f"results/{uid}.dcm", one.item.data)
                session.add(
                    ResultObjectRow(
                        decision_id=decision.id, kind=one.item.kind, variant=variant,
                        sop_class_uid=one.item.sop_class_uid, sop_instance_uid=uid,
                        series_instance_uid=one.item.series_instance_uid,
                        path=f"results/{uid}.dcm", size=len(one.item.data),
                        sha256=hashlib.sha256(one.item.data).hexdigest(), created_at=now,
                    )
                )  # fmt: skip
