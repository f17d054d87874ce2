"""QIDO-RS (PS3.18 section 10.6): studies, series and instances, answered from the ledger alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.domain import InstanceFacts
from ledger.queries import study_counts
from ledger.store import Store
from ledger.tables import Instance, Series, Study
from ledger.web_tables import WorklistRow
from viewer_api.dicomweb.attributes import (
    Attributes,
    as_facts,
    instance_attributes,
    series_attributes,
    study_attributes,
)
from viewer_api.dicomweb.conditions import fitting
from viewer_api.dicomweb.held import held_of_study, results_of_studies
from viewer_api.dicomweb.matching import (
    INSTANCE,
    MORE,
    SERIES,
    Question,
    fits,
)
from viewer_api.errors import ImagesRemovedError, PageNotFoundError

BATCH = 50
SCANNED = 500
"""Studies whose series or instances are looked at for one question about all of them."""
MORE_STUDIES = f"Only the newest {SCANNED} studies that fit were looked at; ask for fewer studies."

_FIELDS = {
    "SeriesInstanceUID": "series_instance_uid",
    "Modality": "modality",
    "SeriesNumber": "series_number",
    "SeriesDescription": "series_description",
    "BodyPartExamined": "body_part_examined",
    "PerformedProcedureStepStartDate": "performed_procedure_step_start_date",
    "PerformedProcedureStepStartTime": "performed_procedure_step_start_time",
    "ScheduledProcedureStepID": "scheduled_procedure_step_id",
    "RequestedProcedureID": "requested_procedure_id",
    "SOPInstanceUID": "sop_instance_uid",
    "SOPClassUID": "sop_class_uid",
    "InstanceNumber": "instance_number",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, and what the client should know of how."""

    rows: list[Attributes]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Searcher:
    """Looks into the ledger. ``base`` is the address that links begin with."""

    session: Session
    store: Store
    base: str

    def studies(self, question: Question) -> Answer:
        """Return studies, the last acquired first."""
        query = (
            fitting(self.session, question, question.offset + question.limit + 1)
            .offset(question.offset)
            .limit(question.limit + 1)
        )
        found = list(self.session.scalars(query))
        rows = self._describe(found[: question.limit])
        return Answer(rows, _warnings(question, len(found) > question.limit))

    def series(self, question: Question, study_uid: str | None = None) -> Answer:
        """Return the series of a study, or of all studies."""

        def of(study: Study) -> Iterator[Attributes]:
            for facts, count in self._series_of(study):
                if _fits(facts, question.series):
                    yield series_attributes(facts, self.base, count)

        return self._page(question, study_uid, of)

    def instances(
        self, question: Question, study_uid: str | None = None, series_uid: str | None = None
    ) -> Answer:
        """Return the instances of a series, of a study, or of all studies."""
        wanted = question.series | question.instance

        def of(study: Study) -> Iterator[Attributes]:
            try:
                held = held_of_study(self.session, self.store, study.study_instance_uid, series_uid)
            except (PageNotFoundError, ImagesRemovedError):
                return
            for one in held:
                if _fits(one.facts, wanted):
                    yield instance_attributes(one.facts, self.base)

        return self._page(question, study_uid, of)

    def _page(
        self,
        question: Question,
        study_uid: str | None,
        of: Callable[[Study], Iterator[Attributes]],
    ) -> Answer:
        """Return what comes of the studies that fit, and of the study level when that is asked."""
        if study_uid is not None:
            question = replace(question, study={**question.study, "StudyInstanceUID": study_uid})
        scanned = 0

        def found() -> Iterator[Attributes]:
            nonlocal scanned
            for study in self._candidates(question):
                scanned += 1
                rows = of(study)
                if study_uid is not None:
                    yield from rows
                    continue
                first = next(rows, None)
                if first is not None:
                    (about,) = self._describe([study])
                    yield about | first
                    yield from (about | row for row in rows)

        rows = list(islice(found(), question.offset, question.offset + question.limit + 1))
        said = _warnings(question, len(rows) > question.limit)
        if len(rows) <= question.limit and scanned >= SCANNED:
            said = (*said, MORE_STUDIES)  # no further page would have what is left out
        return Answer(rows[: question.limit], said)

    def _candidates(self, question: Question) -> Iterator[Study]:
        query = fitting(self.session, question, SCANNED)
        for start in range(0, SCANNED, BATCH):
            rows = self.session.scalars(query.offset(start).limit(BATCH)).all()
            yield from rows
            if len(rows) < BATCH:
                return

    def _series_of(self, study: Study) -> list[tuple[InstanceFacts, int]]:
        """Return each series as the facts of one of its instances, with their number."""
        rows = self.session.execute(
            select(Series, func.count(Instance.id))
            .join(Instance, (Instance.series_id == Series.id) & Instance.is_current)
            .where(Series.study_id == study.id)
            .group_by(Series.id)
        )
        found = [(as_facts(series, study.study_instance_uid), count) for series, count in rows]
        results = results_of_studies(self.session, self.store, [study.id])[study.id]
        counts = Counter(one.series_instance_uid for one in results)
        firsts = {one.series_instance_uid: one for one in reversed(results)}
        found += [(firsts[uid], count) for uid, count in counts.items()]
        return sorted(found, key=lambda one: (one[0].series_number, one[0].series_instance_uid))

    def _describe(self, studies: list[Study]) -> list[Attributes]:
        keys = [study.id for study in studies]
        known = {
            row.study_id: row
            for row in self.session.scalars(
                select(WorklistRow).where(WorklistRow.study_id.in_(keys))
            )
        }
        counted = self.session.execute(
            select(Series.study_id, func.count())
            .where(Series.study_id.in_(keys))
            .group_by(Series.study_id)
        )
        series = {row[0]: row[1] for row in counted}
        results = results_of_studies(self.session, self.store, keys)
        rows = []
        for study in studies:
            row = known.get(study.id)
            if row is None or study.changed_at is not None:  # the row says it a moment later
                instances, modalities = study_counts(self.session, study)
            else:
                instances, modalities = row.instances, row.modalities
            own = results.get(study.id, [])
            rows.append(
                study_attributes(
                    study,
                    self.base,
                    {*modalities, *(one.modality for one in own)},
                    series.get(study.id, 0) + len({one.series_instance_uid for one in own}),
                    instances + len(own),
                )
            )
        return rows


def _fits(facts: InstanceFacts, wanted: dict[str, str]) -> bool:
    kinds = SERIES | INSTANCE
    return all(
        fits(kinds[keyword], value, getattr(facts, _FIELDS[keyword]))
        for keyword, value in wanted.items()
    )


def _warnings(question: Question, is_more: bool) -> tuple[str, ...]:
    return (*question.warnings, MORE) if is_more else question.warnings
