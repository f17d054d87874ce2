"""Writing what was read into the ledger: studies, series, versions of instances, final states.

Everything happens in the caller's transaction. Existing rows are looked up once for the whole
batch; studies are locked in the order of their UIDs, so that writers never wait in a ring.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ledger.domain import InstanceFacts, ObjectState, PatientFacts
from ledger.events import record
from ledger.patients import Patient, differences
from ledger.tables import (
    Instance,
    PatientClaim,
    ReceivedObject,
    ResultObjectRow,
    Series,
    Study,
)
from scp.header import ObjectHeader
from scp.patient_guard import add_claim, read_claims, review
from scp.spool import SpooledObject

INDEXER = "indexer"
"""actor of the events"""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Why an object can't be used: a stable code and a sentence."""

    code: str
    reason: str


Outcome: TypeAlias = ObjectHeader | Quarantined


def write_outcomes(
    session: Session,
    outcomes: Sequence[tuple[int, Outcome]],
    now: float,
    places: Mapping[int, SpooledObject] | None = None,
) -> int:
    """Give objects that are still ``received`` their final state.

    Parameters
    ----------
    outcomes
        Ids of ``received_object`` in ascending order, each with what was read.
    places
        Where the bytes of some lie now.

    Returns
    -------
    int
        How many objects were still ``received``.
    """
    received = _still_received(session, [object_id for object_id, _ in outcomes])
    headers = [
        outcome
        for object_id, outcome in outcomes
        if object_id in received and isinstance(outcome, ObjectHeader)
    ]
    index = _Index(session, headers, now)
    states = []
    for object_id, outcome in outcomes:
        if object_id in received:
            state = index.take(object_id, received[object_id].received_at, outcome)
            if isinstance(outcome, Quarantined):
                subject = received[object_id].sop_instance_uid
                index.record("object.quarantined", subject, object=object_id, code=outcome.code)
            place = (places or {}).get(object_id)
            states.append({"id": object_id, **state, **({} if place is None else asdict(place))})
    if states:
        session.flush()
        index.review_patients()
        session.execute(update(ReceivedObject), states)
    return len(states)


def _still_received(session: Session, ids: list[int]) -> dict[int, Any]:
    columns = (ReceivedObject.id, ReceivedObject.received_at, ReceivedObject.sop_instance_uid)
    rows = session.execute(
        select(*columns)
        .where(ReceivedObject.id.in_(ids), ReceivedObject.state == ObjectState.RECEIVED)
        .order_by(ReceivedObject.id)
        .with_for_update()
    )
    return {row.id: row for row in rows}


class _Index:
    """The rows that a batch touches, found or made."""

    def __init__(self, session: Session, headers: Sequence[ObjectHeader], now: float) -> None:
        self._session = session
        self._now = now
        facts = [header.facts for header in headers]
        instance_uids = {one.sop_instance_uid for one in facts}
        self._studies = self._find_studies({one.study_instance_uid for one in facts})
        self._series = self._find_series({one.series_instance_uid for one in facts})
        self._claims: dict[int, list[PatientClaim]] = {}
        self._versions: dict[str, list[Instance]] = defaultdict(list)
        for instance in session.scalars(
            select(Instance)
            .where(Instance.sop_instance_uid.in_(instance_uids))
            .order_by(Instance.version)
        ):
            self._versions[instance.sop_instance_uid].append(instance)
        self._results = set(
            session.scalars(
                select(ResultObjectRow.sop_instance_uid).where(
                    ResultObjectRow.sop_instance_uid.in_(instance_uids)
                )
            )
        )

    def _find_studies(self, uids: Iterable[str]) -> dict[str, Study]:
        found = self._session.scalars(
            select(Study)
            .where(Study.study_instance_uid.in_(uids))
            .order_by(Study.study_instance_uid)
            .with_for_update()
        )
        return {study.study_instance_uid: study for study in found}

    def _find_series(self, uids: Iterable[str]) -> dict[tuple[int, str], Series]:
        found = self._session.scalars(select(Series).where(Series.series_instance_uid.in_(uids)))
        return {(series.study_id, series.series_instance_uid): series for series in found}

    def take(self, object_id: int, received_at: float, outcome: Outcome) -> dict[str, Any]:
        """File one object and return what changes in its row."""
        if isinstance(outcome, Quarantined):
            return _state(ObjectState.QUARANTINED, outcome.code, outcome.reason)
        uid = outcome.facts.sop_instance_uid
        versions = self._versions[uid]
        if uid in self._results or outcome.is_result:
            state = _state(ObjectState.OWN_RESULT)
        elif known := [one for one in versions if one.sha256 == outcome.sha256]:
            is_restored = self._restore(known[0], object_id, outcome.facts.study_instance_uid)
            state = _state(ObjectState.INDEXED if is_restored else ObjectState.DUPLICATE)
        else:
            state = _state(ObjectState.INDEXED)
            versions.append(self._add(object_id, received_at, outcome, versions))
        return {**state, "sha256": outcome.sha256}

    def _restore(self, instance: Instance, object_id: int, study_uid: str) -> bool:
        """Give an instance that retention has removed its bytes back; tell whether it was."""
        stored = self._session.get_one(ReceivedObject, instance.received_object_id)
        if stored.state != ObjectState.EXPIRED:
            return False
        instance.received_object_id = object_id
        study = self._studies.get(study_uid)
        if study is not None:
            study.expired_at, study.changed_at = None, self._now
            study.last_received_at = max(study.last_received_at, self._now)
        self.record("instance.restored", instance.sop_instance_uid, object=object_id)
        return True

    def _add(
        self, object_id: int, received_at: float, header: ObjectHeader, older: list[Instance]
    ) -> Instance:
        study = self._study(header.facts, header.patient, received_at)
        series = self._one_series(study, header.facts)
        for instance in older:
            instance.is_current = False
        added = Instance(
            series_id=series.id,
            received_object_id=object_id,
            sop_instance_uid=header.facts.sop_instance_uid,
            version=1 + max((instance.version for instance in older), default=0),
            is_current=True,
            sha256=header.sha256,
            facts=header.facts.to_json(),
            patient_claim=self._claim(study, header.patient, received_at),
        )
        self._session.add(added)
        if older:
            self.record(
                "instance.new_version",
                added.sop_instance_uid,
                version=added.version,
                object=object_id,
                study=study.study_instance_uid,
            )
        return added

    def _study(self, facts: InstanceFacts, patient: PatientFacts, received_at: float) -> Study:
        study = self._studies.get(facts.study_instance_uid)
        if study is None:
            study = Study(
                study_instance_uid=facts.study_instance_uid,
                first_received_at=received_at,
                last_received_at=received_at,
                **asdict(patient),
            )
            self._session.add(study)
            self._session.flush()
            self._studies[facts.study_instance_uid] = study
        study.last_received_at = max(study.last_received_at, received_at)
        study.open_since = min(received_at, study.open_since or received_at)
        study.expired_at = None
        study.changed_at = self._now
        return study

    def _claim(self, study: Study, patient: PatientFacts, received_at: float) -> int:
        """Return the number of what a header says about the patient; hold a study at odds."""
        said = Patient.of(patient)
        known = self._claims.get(study.id)
        if known is None:
            known = read_claims(self._session, study)
            if not known:
                first = Patient.of(study)
                known = [add_claim(self._session, study, [], first, study.first_received_at)]
            self._claims[study.id] = known
        for claim in known:
            if not differences(Patient.of(claim), said):
                return claim.number
        claim = add_claim(self._session, study, known, said, received_at)
        known.append(claim)
        return claim.number

    def review_patients(self) -> None:
        """Hold studies whose objects name several patients."""
        for study in self._studies.values():
            if len(self._claims.get(study.id, ())) > 1:
                review(self._session, study, self._now)

    def _one_series(self, study: Study, facts: InstanceFacts) -> Series:
        series = self._series.get((study.id, facts.series_instance_uid))
        if series is None:
            series = Series(
                study_id=study.id,
                series_instance_uid=facts.series_instance_uid,
                modality=facts.modality,
                body_part_examined=facts.body_part_examined,
                series_description=facts.series_description,
                series_number=facts.series_number,
                performed_procedure_step_start_date=facts.performed_procedure_step_start_date,
                performed_procedure_step_start_time=facts.performed_procedure_step_start_time,
                scheduled_procedure_step_id=facts.scheduled_procedure_step_id,
                requested_procedure_id=facts.requested_procedure_id,
            )
            self._session.add(series)
            self._session.flush()
            self._series[study.id, facts.series_instance_uid] = series
        return series

    def record(self, action: str, subject: str, **detail: Any) -> None:
        """Append an event."""
        record(
            self._session,
            actor=INDEXER,
            action=action,
            subject=subject,
            detail=detail,
            now=self._now,
        )


def _state(
    state: ObjectState, code: str | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {"state": state.value, "reason_code": code, "reason": reason}
