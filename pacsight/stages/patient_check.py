"""Whether results are still of the right patient, asked before they leave.

A study can be merged or renamed at the PACS while it is analysed. The patient in the bytes that are
about to be sent is compared with whom the destination knows the study of (C-FIND), and with what
has been decided here. Bytes that name another patient are never sent.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from pydicom import dcmread
from sqlalchemy.orm import Session

from dicom_out.destination import DeliveryReceipt, Destination, Outcome
from ledger.database import reading, transaction
from ledger.events import record
from ledger.facts import read_text_value
from ledger.patients import Patient, differences, is_renamed
from ledger.tables import ResultObjectRow, Study
from pacsight.peers import ask_patient
from pacsight.stages.context import StageContext, study_of
from pacsight.work import Work
from scp.completeness import Confidence, Verdict
from scp.patient_guard import accept_claim, decide_patient
from scp.revisions import add_revision

KEYWORDS = ("PatientID", "PatientName", "PatientBirthDate")
CHANGED = "PATIENT_CHANGED"
DIFFERS = "PATIENT_DIFFERS"


def refuse_patient(
    context: StageContext, work: Work, destination: Destination, items: Sequence[ResultObjectRow]
) -> dict[str, DeliveryReceipt]:
    """Return a refusal of each object if they name another patient than they should; else nothing.

    A patient that the destination has renamed or merged is followed: the study is analysed and
    encoded again as that one's. Somebody else's study, or a change that contradicts an earlier
    decision, is left to people.

    Raises
    ------
    ledger.errors.StoreError
        A result can't be read.
    """
    written = _read_patient(context.store.get(items[0].path))
    with reading(context.database) as session:
        uid = study_of(session, work.revision_id).study_instance_uid
    title = context.settings.scp.ae_title
    there = None
    if destination.checks_patient:
        there = ask_patient(title, context.queries, destination, uid)
    with transaction(context.database) as session:
        study = session.get_one(Study, study_of(session, work.revision_id).id, with_for_update=True)
        code, message = _judge(session, study, written, there, destination, context.clock())
    if not code:
        return {}
    return {
        item.sop_instance_uid: DeliveryReceipt(
            sop_instance_uid=item.sop_instance_uid,
            outcome=Outcome.FAILED,
            code=code,
            message=message,
        )
        for item in items
    }


def _judge(
    session: Session,
    study: Study,
    written: Patient,
    there: Patient | None,
    destination: Destination,
    now: float,
) -> tuple[str, str]:
    decided = Patient.from_json(study.decided_patient) if study.decided_patient else None
    is_settled = there is None or (decided is not None and not differences(decided, there))
    if decided is not None and is_settled:
        if differences(written, decided):
            return CHANGED, "The patient was changed; a later revision says so."
        return "", ""
    if there is None or not differences(written, there):
        return "", ""
    differ = list(differences(written, there))
    if decided is not None or not is_renamed(written, there):
        _journal(session, study, "patient.differs", destination, differ, now)
        return DIFFERS, (
            f"The destination knows this study as another patient's ({', '.join(differ)}). Correct "
            "it there or at the source, then replay the study or retry."
        )
    decide_patient(study, there, destination.name)
    accept_claim(session, study, there, now)
    reason = f"{destination.name} holds the study with another {' and '.join(differ)}."
    add_revision(session, study, Verdict("PATIENT_RENAMED", reason, Confidence.LIKELY), now)
    _journal(session, study, "patient.followed", destination, differ, now)
    return CHANGED, "The destination has renamed the patient; a new revision follows it."


def _journal(
    session: Session,
    study: Study,
    action: str,
    destination: Destination,
    differ: list[str],
    now: float,
) -> None:
    record(
        session,
        actor="worker",
        action=action,
        subject=study.study_instance_uid,
        detail={"destination": destination.name, "differ": differ},
        now=now,
    )


def _read_patient(data: bytes) -> Patient:
    ds = dcmread(io.BytesIO(data), specific_tags=["SpecificCharacterSet", *KEYWORDS])
    return Patient(*(read_text_value(ds, keyword) for keyword in KEYWORDS))
