"""What a stage needs of the world, passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pydicom import Dataset, dcmread
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from inference.model_server import ModelServer
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from inference.volume import Volume, read_series
from ledger.database import reading
from ledger.domain import ObjectState
from ledger.store import Store
from ledger.tables import (
    Decision,
    Instance,
    PatientClaim,
    ReceivedObject,
    Revision,
    Series,
    Study,
)
from pacsight.errors import StageError
from pacsight.monitoring.tracing import OFF, Tracer
from pacsight.peers import QueryJournal
from pacsight.settings import Settings
from scp.errors import StudyHeldError
from scp.spool import open_object


@dataclass(frozen=True, slots=True)
class StageContext:
    """Settings, the ledger, the store, the models, a clock (seconds since 1970 UTC), and more."""

    settings: Settings
    database: Engine
    store: Store
    registry: Registry
    models: ModelServer
    clock: Callable[[], float]
    queries: QueryJournal
    """of what peers are asked"""
    tracer: Tracer = OFF


def instances_of(session: Session, revision_id: int) -> list[Instance]:
    """Return what a revision analyses: each SOP Instance's newest version up to that revision.

    What retention has removed is no longer part of it.
    """
    revision = session.get_one(Revision, revision_id)
    disowned = select(PatientClaim.number).where(
        PatientClaim.study_id == revision.study_id, PatientClaim.is_accepted.is_(False)
    )
    rows = session.scalars(
        select(Instance)
        .join(Series)
        .join(Revision, Instance.revision_id == Revision.id)
        .join(ReceivedObject, Instance.received_object_id == ReceivedObject.id)
        .where(
            ReceivedObject.state != ObjectState.EXPIRED,
            Series.study_id == revision.study_id,
            Revision.number <= revision.number,
            Instance.patient_claim.is_(None) | Instance.patient_claim.not_in(disowned),
        )
        .order_by(Instance.sop_instance_uid, Instance.version)
    )
    return list({row.sop_instance_uid: row for row in rows}.values())


def study_of(session: Session, revision_id: int) -> Study:
    """Return the study that a revision belongs to."""
    return session.get_one(Study, session.get_one(Revision, revision_id).study_id)


def refuse_held(session: Session, revision_id: int) -> None:
    """Let nothing go on about a study that somebody has to decide about.

    Raises
    ------
    StudyHeldError
        It is held.
    """
    if study_of(session, revision_id).held_code is not None:
        raise StudyHeldError


def take_decided_patient(
    context: StageContext, revision_id: int, headers: Iterable[Dataset]
) -> None:
    """Write into the headers whose study it is, where that was decided against them."""
    with reading(context.database) as session:
        decided = study_of(session, revision_id).decided_patient
    if decided is None:
        return
    for ds in headers:
        ds.PatientID = decided["patient_id"]
        ds.PatientName = decided["patient_name"]
        ds.PatientBirthDate = decided["patient_birth_date"]


def accepted_decision(session: Session, decision_id: int) -> Decision:
    """Return an accepted routing decision.

    Raises
    ------
    StageError
        It doesn't exist.
    """
    decision = session.get(Decision, decision_id)
    if decision is None or not decision.is_accepted:
        raise StageError("The routing decision is gone; replay the study.")
    return decision


def known_decision(session: Session, decision_id: int) -> Decision:
    """Return a routing decision, accepted or not.

    Raises
    ------
    StageError
        It doesn't exist.
    """
    decision = session.get(Decision, decision_id)
    if decision is None:
        raise StageError("The routing decision is gone; replay the study.")
    return decision


def package_of(context: StageContext, decision: Decision) -> ModelPackage:
    """Return the very package that a decision was made for.

    Raises
    ------
    StageError
        It is no longer installed.
    """
    made_for = (decision.model_id, decision.model_version, decision.model_digest)
    for package in context.registry.models:
        identity = package.identity
        if (identity.model_id, identity.version, identity.digest) == made_for:
            return package
    raise StageError(
        f"Model {decision.model_id} {decision.model_version} is no longer installed; "
        "replay the study."
    )


def source_headers(
    context: StageContext, revision_id: int, sop_instance_uids: Sequence[str]
) -> Iterator[Dataset]:
    """Yield the headers of SOP Instances of any kind, in the versions that a revision analyses.

    Raises
    ------
    StageError
        The revision lacks one of the instances.
    scp.errors.SpoolError
        An object can't be read.
    """
    for stored in _stored_objects(context, revision_id, sop_instance_uids):
        with open_stored(context, stored) as file:
            yield dcmread(file, stop_before_pixels=True)


def takes_series(context: StageContext, decision: Decision) -> bool:
    """Tell whether the decision's model answers about a whole series at once."""
    return package_of(context, decision).manifest.input.unit == "series"


def source_image(context: StageContext, revision_id: int, sop_instance_uid: str) -> SourceImage:
    """Read the pixels of the version of a SOP Instance that a revision analyses.

    Raises
    ------
    StageError
        The revision holds no such instance.
    scp.errors.SpoolError, inference.errors.InferenceError
        The object can't be read.
    """
    (stored,) = _stored_objects(context, revision_id, (sop_instance_uid,))
    with open_stored(context, stored) as file:
        return read_image(file)


def source_volume(
    context: StageContext, revision_id: int, sop_instance_uids: Sequence[str]
) -> Volume:
    """Read the slices of a series, in the versions that a revision analyses.

    Raises
    ------
    StageError
        The revision lacks one of the instances.
    scp.errors.SpoolError, inference.errors.InferenceError
        A slice can't be read, or they make no volume.
    """

    def slices() -> Iterator[BinaryIO]:
        objects = list(dict.fromkeys(sop_instance_uids))  # frames of one object share its UID
        for stored in _stored_objects(context, revision_id, objects):
            with open_stored(context, stored) as file:
                yield file

    return read_series(slices())


def open_stored(context: StageContext, stored: ReceivedObject) -> BinaryIO:
    """Open a received object, wherever it lies: this machine's spool, or the object store.

    Raises
    ------
    scp.errors.SpoolError, ledger.errors.StoreError
        It can't be read.
    """
    spool = context.settings.spool_dir
    return open_object(spool, stored.segment, stored.offset, stored.size, context.store)


def _stored_objects(
    context: StageContext, revision_id: int, sop_instance_uids: Sequence[str]
) -> list[ReceivedObject]:
    with reading(context.database) as session:
        held = {one.sop_instance_uid: one for one in instances_of(session, revision_id)}
        if set(sop_instance_uids) - held.keys():
            raise StageError("The instance is not part of this revision; replay the study.")
        return [
            session.get_one(ReceivedObject, held[uid].received_object_id)
            for uid in sop_instance_uids
        ]
