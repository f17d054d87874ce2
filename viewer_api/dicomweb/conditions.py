"""The SQL of what QIDO-RS asks of studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Select, SelectBase, and_, func, or_, select, union
from sqlalchemy.orm import InstrumentedAttribute, Session

from ledger.search import COUNTED, are_few, few_with_tags, has_tag, tags_of_pattern
from ledger.tables import (
    OF_FEW_STUDIES,
    Decision,
    Instance,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from viewer_api.dicomweb.matching import STUDY, Kind, Question, ends_of, is_pattern, values_of

RESULT_KINDS = {"SR": "sr", "SEG": "seg", "OT": "sc", "DOC": "pdf"}
"""Kind of our results by their modality."""
DATE = 8
"""Digits of a date; times may be cut short."""

_COLUMNS: dict[str, InstrumentedAttribute[str]] = {
    "StudyInstanceUID": Study.study_instance_uid,
    "StudyDate": Study.study_date,
    "StudyTime": Study.study_time,
    "AccessionNumber": Study.accession_number,
    "ReferringPhysicianName": Study.referring_physician_name,
    "PatientName": Study.patient_name,
    "PatientID": Study.patient_id,
    "PatientBirthDate": Study.patient_birth_date,
    "PatientSex": Study.patient_sex,
    "StudyID": Study.study_id,
    "StudyDescription": Study.study_description,
}
_TAGGED = ("PatientName", "PatientID", "AccessionNumber")
"""Whose words are tags."""


def fitting(session: Session, question: Question, limit: int) -> Select[Study]:
    """Choose the studies that fit, of which the first `limit` are wanted; the last acquired first.

    Where series or instances are asked for, also those that have none that fits may be among them.
    Where tags tell that few can fit, those are looked at; else studies are read in their order.
    """
    asked = question.study.items()
    conditions = [_condition(keyword, value) for keyword, value in asked]
    patterns = [
        value for keyword, value in asked if keyword in _TAGGED and _is_like(keyword, value)
    ]
    modalities = [value for keyword, value in asked if keyword == "ModalitiesInStudy"]
    parts = {**question.series, **question.instance}
    if "SOPInstanceUID" in parts:
        conditions.append(_with_instance(values_of(parts["SOPInstanceUID"])))
    elif "SeriesInstanceUID" in parts:
        conditions.append(_with_series(values_of(parts["SeriesInstanceUID"])))
    elif "Modality" in parts:
        modalities.append(parts["Modality"])
        conditions.append(_has_modality(values_of(parts["Modality"])))
    tags = [tag for pattern in patterns for tag in tags_of_pattern(pattern)]
    few: list[SelectBase | None] = [
        few_with_tags(session, tags, limit),
        *(_few_of_modality(session, one, limit) for one in modalities),
    ]
    conditions += [Study.id.in_(ids) for ids in few if ids is not None]
    conditions.append(Study.expired_at.is_(None))
    return select(Study).where(*conditions).order_by(Study.study_date.desc(), Study.id.desc())


def _condition(keyword: str, wanted: str) -> ColumnElement[bool]:
    if keyword == "ModalitiesInStudy":
        return _has_modality(values_of(wanted))
    column, kind = _COLUMNS[keyword], STUDY[keyword]
    if kind is Kind.LIST:
        return column.in_(values_of(wanted))
    if kind is Kind.RANGE:
        return and_(*_between(column, *ends_of(wanted)))
    if _is_like(keyword, wanted):
        return column.ilike(_like(wanted), escape="\\")
    return column == wanted


def _is_like(keyword: str, wanted: str) -> bool:
    return STUDY[keyword] is Kind.NAME or is_pattern(wanted)


def _few_of_modality(session: Session, wanted: str, limit: int) -> SelectBase | None:
    modality, *others = values_of(wanted) or [""]
    kind = RESULT_KINDS.get(modality)
    if others or kind in ("sr", "sc"):
        return None
    few = few_with_tags(session, [("modality", modality, False)], limit)
    if few is None or kind is None:
        return few
    of_kind = and_(OF_FEW_STUDIES, ResultObjectRow.kind == kind)
    some = select(ResultObjectRow.id).where(of_kind).limit(COUNTED).subquery()
    count = session.scalar(select(func.count()).select_from(some)) or 0
    return union(few, _with_results(of_kind)) if are_few(session, count, limit) else None


def _between(
    column: InstrumentedAttribute[str], start: str, end: str
) -> Iterator[ColumnElement[bool]]:
    yield column >= (start or "0")
    if end:  # until 11 means until 11:59
        yield or_(column <= end, column.startswith(end)) if len(end) < DATE else column <= end


def _like(wanted: str) -> str:
    for special in ("\\", "%", "_"):
        wanted = wanted.replace(special, f"\\{special}")
    return wanted.replace("*", "%").replace("?", "_")


def _has_modality(modalities: Sequence[str]) -> ColumnElement[bool]:
    kinds = [RESULT_KINDS[one] for one in modalities if one in RESULT_KINDS]
    found = [has_tag(Study.id, "modality", one) for one in modalities]
    if kinds:
        results = _with_results(ResultObjectRow.kind.in_(kinds))
        found.append(results.where(Revision.study_id == Study.id).offset(0).exists())
    return or_(*found)


def _with_series(uids: Sequence[str]) -> ColumnElement[bool]:
    received = select(Series.study_id).where(Series.series_instance_uid.in_(uids))
    results = _with_results(ResultObjectRow.series_instance_uid.in_(uids))
    return Study.id.in_(union(received, results))


def _with_instance(uids: Sequence[str]) -> ColumnElement[bool]:
    received = select(Series.study_id).join(Instance).where(Instance.sop_instance_uid.in_(uids))
    results = _with_results(ResultObjectRow.sop_instance_uid.in_(uids))
    return Study.id.in_(union(received, results))


def _with_results(which: ColumnElement[bool]) -> Select[int]:
    """Choose studies by their results."""
    return (
        select(Revision.study_id)
        .join(Decision, Decision.revision_id == Revision.id)
        .join(ResultObjectRow, ResultObjectRow.decision_id == Decision.id)
        .where(which)
    )
