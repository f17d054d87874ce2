"""One study, one patient: what its headers claim, what holds it, and what a person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ledger.events import record
from ledger.patients import Patient, differences
from ledger.tables import Instance, PatientClaim, Series, Study
from scp.completeness import Confidence, Verdict
from scp.config import StatRule
from scp.errors import NotReleasedError
from scp.evidence import EvidenceReader
from scp.revisions import add_revision
from scp.urgency import is_stat

PATIENT_CONFLICT = "PATIENT_CONFLICT"


def read_claims(session: Session, study: Study) -> list[PatientClaim]:
    """Return what the headers of a study have claimed so far, in the order of their numbers."""
    query = select(PatientClaim).where(PatientClaim.study_id == study.id)
    return list(session.scalars(query.order_by(PatientClaim.number)))


def add_claim(
    session: Session,
    study: Study,
    known: list[PatientClaim],
    said: Patient,
    received_at: float,
) -> PatientClaim:
    """Write down what a header says that none before it said; only the first is believed."""
    claim = PatientClaim(
        study_id=study.id,
        number=len(known) + 1,
        is_accepted=None if known else True,
        first_received_at=received_at,
        **asdict(said),
    )
    session.add(claim)
    return claim


def review(session: Session, study: Study, now: float) -> None:
    """Hold a study whose current objects contradict each other; let go where they no longer do.

    Where a sender has corrected the patient in all of them, by newer versions, the correction
    counts.
    """
    claims = read_claims(session, study)
    held = session.scalars(
        select(Instance.patient_claim)
        .join(Series)
        .where(Series.study_id == study.id, Instance.is_current)
        .distinct()
    )
    current = {number or 1 for number in held}  # null: from before claims were written down
    present = [one for one in claims if one.number in current and one.is_accepted is not False]
    undecided = [one for one in present if one.is_accepted is None]
    was_held = study.held_code is not None
    if len(present) == 1 and undecided:
        undecided[0].is_accepted = True
        study.decided_patient = study.decided_by = None
        _describe(study, Patient.of(undecided[0]))
        _journal(session, study, "patient.corrected", {"claim": undecided[0].number}, now)
        undecided = []
    if undecided:
        names = differences(Patient.of(present[0]), Patient.of(undecided[-1]))
        study.held_code = PATIENT_CONFLICT
        study.held_reason = (
            f"Its objects contradict each other in {' and '.join(names) or 'their patients'}. Find "
            "out whose study it is; then 'pacsight studies release'."
        )
        if not was_held:
            detail = {"code": PATIENT_CONFLICT, "differ": list(names)}
            _journal(session, study, "study.held", detail, now)
    elif was_held:
        study.held_code = study.held_reason = None
        _journal(session, study, "study.released", {"because": "no contradiction is left"}, now)


def _journal(
    session: Session, study: Study, action: str, detail: dict[str, Any], now: float
) -> None:
    uid, study.changed_at = study.study_instance_uid, now
    record(session, actor="patient-guard", action=action, subject=uid, detail=detail, now=now)


def release_study(
    session: Session,
    study: Study,
    *,
    patient_id: str,
    drops_others: bool,
    now: float,
    stat_rules: Sequence[StatRule],
) -> int:
    """Let a held study go on, as the patient that somebody has decided on.

    Parameters
    ----------
    patient_id
        Of the claim that is right, or ``#`` and its number: the results carry its attributes.
    drops_others
        Leave out the objects that say something else, rather than call them that patient's.
    now
        Seconds since 1970-01-01 UTC.
    stat_rules
        Which studies go first.

    Returns
    -------
    int
        Number of the revision that analyses it.

    Raises
    ------
    NotReleasedError
        Nothing holds the study, or no or several claims have that Patient ID.
    """
    session.get(Study, study.id, with_for_update=True)
    if study.held_code is None:
        raise NotReleasedError("Nothing holds this study; see 'pacsight studies show'.")
    claims = read_claims(session, study)
    right = [one for one in claims if patient_id in (one.patient_id, f"#{one.number}")]
    if len(right) != 1:
        raise NotReleasedError(
            f"{len(right)} of its {len(claims)} patients fit; name one by its Patient ID or by its "
            "number in 'pacsight studies show --patients': --as '#2'."
        )
    chosen = right[0]
    for claim in claims:
        claim.is_accepted = claim is chosen or not drops_others
    decide_patient(study, Patient.of(chosen), "operator")
    study.held_code = study.held_reason = None
    verdict = Verdict("RELEASED", "An operator decided whose study it is.", Confidence.LIKELY)
    revision = add_revision(session, study, verdict, now)
    revision.is_stat = is_stat(EvidenceReader().request(session, study.id), stat_rules)
    record(
        session,
        actor="operator",
        action="study.released",
        subject=study.study_instance_uid,
        detail={"claim": chosen.number, "of": len(claims), "drops_others": drops_others},
        now=now,
    )
    return revision.number


def decide_patient(study: Study, patient: Patient, by: str) -> None:
    """Write down whose study it is whatever its headers say."""
    study.decided_patient, study.decided_by = asdict(patient), by
    _describe(study, patient)


def _describe(study: Study, patient: Patient) -> None:
    study.patient_id = patient.patient_id
    study.patient_name = patient.patient_name
    study.patient_birth_date = patient.patient_birth_date


def accept_claim(session: Session, study: Study, patient: Patient, now: float) -> None:
    """Believe a patient that no header has named yet, so that objects which do hold nothing up."""
    known = read_claims(session, study)
    if all(differences(Patient.of(claim), patient) for claim in known):
        add_claim(session, study, known, patient, now).is_accepted = True
