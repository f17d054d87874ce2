"""The DICOM JSON Model (PS3.18 annex F): attributes of search answers and of store answers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

from pydicom.datadict import dictionary_VR, tag_for_keyword

from ledger.domain import InstanceFacts
from ledger.tables import Series, Study

Attributes: TypeAlias = dict[str, dict[str, Any]]
NUMBERS = frozenset({"IS", "US", "UL", "DS"})


@cache
def _place(keyword: str) -> tuple[str, str]:
    """Return group and element as eight hexadecimal digits, and the VR."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}", dictionary_VR(keyword).partition(" ")[0]


def attributes(**values: Any) -> Attributes:
    """Return attributes by keyword; an empty value leaves the attribute without one."""
    found: Attributes = {}
    for keyword, value in values.items():
        tag, vr = _place(keyword)
        many = value if isinstance(value, (list, tuple)) else [value]
        kept = [_value(vr, one) for one in many if one not in ("", None)]
        found[tag] = {"vr": vr, "Value": kept} if kept else {"vr": vr}
    return dict(sorted(found.items()))


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        parts = zip(groups, str(value).split("="), strict=False)
        return {group: part for group, part in parts if part}
    return value if vr in NUMBERS or vr == "SQ" else str(value)


def study_attributes(
    study: Study, base: str, modalities: Iterable[str], series: int, instances: int
) -> Attributes:
    """Return what a search for studies answers (PS3.18 table 10.6.3-3)."""
    uid = study.study_instance_uid
    return attributes(
        SpecificCharacterSet="ISO_IR 192",
        StudyDate=study.study_date,
        StudyTime=study.study_time,
        AccessionNumber=study.accession_number,
        InstanceAvailability="ONLINE",
        ModalitiesInStudy=sorted(modalities),
        ReferringPhysicianName=study.referring_physician_name,
        StudyDescription=study.study_description,
        RetrieveURL=f"{base}/studies/{uid}",
        PatientName=study.patient_name,
        PatientID=study.patient_id,
        PatientBirthDate=study.patient_birth_date,
        PatientSex=study.patient_sex,
        StudyInstanceUID=uid,
        StudyID=study.study_id,
        NumberOfStudyRelatedSeries=series,
        NumberOfStudyRelatedInstances=instances,
    )


def series_attributes(facts: InstanceFacts, base: str, instances: int) -> Attributes:
    """Return what a search for series answers (PS3.18 table 10.6.3-4)."""
    request = attributes(
        ScheduledProcedureStepID=facts.scheduled_procedure_step_id,
        RequestedProcedureID=facts.requested_procedure_id,
    )
    is_requested = facts.scheduled_procedure_step_id or facts.requested_procedure_id
    return attributes(
        SpecificCharacterSet="ISO_IR 192",
        Modality=facts.modality,
        SeriesDescription=facts.series_description,
        BodyPartExamined=facts.body_part_examined,
        RetrieveURL=f"{base}/studies/{facts.study_instance_uid}/series/{facts.series_instance_uid}",
        StudyInstanceUID=facts.study_instance_uid,
        SeriesInstanceUID=facts.series_instance_uid,
        SeriesNumber=facts.series_number,
        NumberOfSeriesRelatedInstances=instances,
        PerformedProcedureStepStartDate=facts.performed_procedure_step_start_date,
        PerformedProcedureStepStartTime=facts.performed_procedure_step_start_time,
        RequestAttributesSequence=[request] if is_requested else [],
    )


def instance_url(facts: InstanceFacts, base: str) -> str:
    """Return where an instance is retrieved."""
    return (
        f"{base}/studies/{facts.study_instance_uid}/series/{facts.series_instance_uid}"
        f"/instances/{facts.sop_instance_uid}"
    )


def instance_attributes(facts: InstanceFacts, base: str) -> Attributes:
    """Return what a search for instances answers (PS3.18 table 10.6.3-5)."""
    found = attributes(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=facts.sop_class_uid,
        SOPInstanceUID=facts.sop_instance_uid,
        InstanceAvailability="ONLINE",
        RetrieveURL=instance_url(facts, base),
        StudyInstanceUID=facts.study_instance_uid,
        SeriesInstanceUID=facts.series_instance_uid,
        InstanceNumber=facts.instance_number,
    )
    if facts.rows:
        image = attributes(
            NumberOfFrames=max(1, facts.number_of_frames),
            Rows=facts.rows,
            Columns=facts.columns,
            BitsAllocated=facts.bits_allocated or None,
        )
        found |= {tag: value for tag, value in image.items() if "Value" in value}
    return dict(sorted(found.items()))


def as_facts(series: Series, study_uid: str) -> InstanceFacts:
    """Return a series as the facts of any of its instances."""
    return InstanceFacts(
        study_instance_uid=study_uid,
        series_instance_uid=series.series_instance_uid,
        sop_instance_uid="",
        sop_class_uid="",
        transfer_syntax_uid="",
        modality=series.modality,
        body_part_examined=series.body_part_examined,
        series_description=series.series_description,
        series_number=series.series_number,
        performed_procedure_step_start_date=series.performed_procedure_step_start_date,
        performed_procedure_step_start_time=series.performed_procedure_step_start_time,
        scheduled_procedure_step_id=series.scheduled_procedure_step_id,
        requested_procedure_id=series.requested_procedure_id,
    )
