"""Gathering what is known of open studies, from the ledger and from what sources answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, false, func, or_, select, true
from sqlalchemy.orm import Session

from ledger.domain import InstanceFacts, ObjectState
from ledger.tables import (
    Announcement,
    Association,
    Decision,
    Instance,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from scp.completeness import StudyEvidence, Tally
from scp.counts import NO_IMAGES, SourceAnswer, compare_source, most_telling, state_counts
from scp.stacks import examine
from scp.urgency import Request

EMPTY = (0, 0)
IN_PROGRESS = "IN PROGRESS"
"""Performed Procedure Step Status, PS3.3 section C.4.14"""
BURST_S = 0.5
"""Nothing is counted before a study was still for so long: each time means reading all of it."""


class SourceBoard(Protocol):
    """Where answers of sources are found; never waits for one."""

    def look(
        self, study_instance_uid: str, calling_ae_titles: Collection[str], held: int
    ) -> Sequence[SourceAnswer]:
        """Return the latest answers about a study, as far as there are, and ask again if need be.

        Parameters
        ----------
        calling_ae_titles
            Who sent it.
        held
            How many instances are here; when it changes, the answer is asked for anew.
        """


@dataclass(frozen=True, slots=True)
class _Content:
    """What a study holds, summed up from its headers."""

    uids: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    """those of them that are no reports, marks and the like"""
    counts: Mapping[str, int] = field(default_factory=dict)
    """instances by series"""
    has_stack: bool = False
    missing: tuple[str, ...] = ()
    stated: Tally | None = None
    request: Request = field(default_factory=Request)


class EvidenceReader:
    """Reads evidence; remembers what the headers of a study said until another instance comes.

    Parameters
    ----------
    sources
        Answers of sources; without, no source is asked.

    Attributes
    ----------
    spools
        Identities of those that are being read; only their unread objects are waited for. None for
        all. A machine that is gone must not hold up the others' studies.
    """

    def __init__(self, sources: SourceBoard | None = None) -> None:
        self._sources = sources
        self.spools: Collection[str] | None = None
        self._contents: dict[int, tuple[tuple[int, int], _Content]] = {}

    def load(
        self, session: Session, which: ColumnElement[bool], now: float
    ) -> dict[int, StudyEvidence]:
        """Return the evidence of the chosen studies by their ids."""
        read_until = session.scalar(
            select(ReceivedObject.received_at)
            .where(ReceivedObject.state == ObjectState.RECEIVED, self._is_read())
            .order_by(ReceivedObject.id)
            .limit(1)
        )
        counts = (
            select(
                Study.id,
                Study.study_instance_uid,
                Study.open_since,
                Study.last_received_at,
                func.count(Instance.id),
                func.count(func.distinct(Instance.series_id)),
            )
            .outerjoin(Series, Series.study_id == Study.id)
            .outerjoin(Instance, and_(Instance.series_id == Series.id, is_new()))
            .where(which)
            .group_by(Study.id, Study.study_instance_uid, Study.open_since, Study.last_received_at)
        )
        closing = _load_associations(session, which)
        signatures, said = _signatures(session, which), _load_announcements(session, which)
        evidence = {}
        for study_id, uid, open_since, last_at, instances, series in session.execute(counts).all():
            closed = closing.get(study_id, _Closing())
            more: dict[str, Any] = {"has_stack": True}  # patience, until it is known
            if now - last_at >= BURST_S:
                content = self._content(session, study_id, signatures.get(study_id, EMPTY))
                in_progress, announced = _announced(said.get(uid, ()), content)
                more = {
                    "has_stack": content.has_stack,
                    "missing": content.missing,
                    "stated": content.stated,
                    "steps_in_progress": in_progress,
                    "announced": announced,
                    "source": self._source(session, study_id, uid, content, closed.senders),
                }
            evidence[study_id] = StudyEvidence(
                open_since=open_since or 0.0,
                last_received_at=last_at,
                instances=instances,
                series=series,
                open_associations=closed.open,
                last_closed_at=closed.last_at,
                last_outcome=closed.last_outcome,
                read_until=read_until,
                **more,
            )
        return evidence

    def _is_read(self) -> ColumnElement[bool]:
        if self.spools is None:
            return true()
        starts = (ReceivedObject.segment.startswith(f"{spool}-") for spool in self.spools)
        return or_(false(), *starts)

    def request(self, session: Session, study_id: int) -> Request:
        """Return how urgent a study is, as far as its objects tell."""
        signature = _signatures(session, Study.id == study_id).get(study_id, EMPTY)
        return self._content(session, study_id, signature).request

    def forget(self, study_id: int) -> None:
        """Drop what is remembered of a study that is closed."""
        self._contents.pop(study_id, None)

    def _source(
        self,
        session: Session,
        study_id: int,
        uid: str,
        content: _Content,
        senders: Collection[str],
    ) -> Tally | None:
        if self._sources is None:
            return None
        answers = self._sources.look(uid, senders, len(content.uids))
        own = set(
            session.scalars(
                select(ResultObjectRow.series_instance_uid)
                .join(Decision, ResultObjectRow.decision_id == Decision.id)
                .join(Revision, Decision.revision_id == Revision.id)
                .where(Revision.study_id == study_id)
            )
        )
        return most_telling([compare_source(answer, content.counts, own) for answer in answers])

    def _content(self, session: Session, study_id: int, signature: tuple[int, int]) -> _Content:
        is_held = and_(Series.study_id == study_id, Instance.is_current)
        known = self._contents.get(study_id)
        if known is None or known[0] != signature:
            rows = session.execute(
                select(Instance.facts, ReceivedObject.priority, Association.calling_ae_title)
                .join(Series, Series.id == Instance.series_id)
                .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
                .join(Association, Association.id == ReceivedObject.association_id)
                .where(is_held)
            ).all()
            description = session.scalar(
                select(Study.study_description).where(Study.id == study_id)
            )
            known = (signature, _sum_up(rows, description or ""))
            self._contents[study_id] = known
        return known[1]


def is_new() -> ColumnElement[bool]:
    """Choose current instances that no revision holds."""
    return and_(Instance.revision_id.is_(None), Instance.is_current)


def _sum_up(
    rows: Iterable[tuple[dict[str, object], int | None, str]], description: str
) -> _Content:
    found = [(InstanceFacts.from_json(facts), priority, title) for facts, priority, title in rows]
    by_series: dict[str, list[InstanceFacts]] = defaultdict(list)
    for facts, _, _ in found:
        by_series[facts.series_instance_uid].append(facts)
    states = [examine(instances) for instances in by_series.values()]
    everything = [facts for facts, _, _ in found]
    return _Content(
        uids=frozenset(one.sop_instance_uid for one in everything),
        images=frozenset(
            one.sop_instance_uid for one in everything if one.modality not in NO_IMAGES
        ),
        counts={uid: len(instances) for uid, instances in by_series.items()},
        has_stack=any(state.is_stack for state in states),
        missing=tuple(text for state in states for text in state.missing),
        stated=state_counts(everything, len(by_series)),
        request=Request(
            store_priorities={priority for _, priority, _ in found},
            requested_procedure_priorities={one.requested_procedure_priority for one in everything},
            calling_ae_titles={title for _, _, title in found},
            modalities={one.modality for one in everything},
            body_parts_examined={one.body_part_examined for one in everything},
            study_description=description,
        ),
    )


def _signatures(session: Session, which: ColumnElement[bool]) -> dict[int, tuple[int, int]]:
    """Return what changes whenever what studies hold does: how many instances, and the newest.

    Outer joins, because they begin at the chosen studies; SQLite would begin at all instances.
    """
    rows = session.execute(
        select(Study.id, func.count(Instance.id), func.max(Instance.id))
        .outerjoin(Series, Series.study_id == Study.id)
        .outerjoin(Instance, and_(Instance.series_id == Series.id, Instance.is_current))
        .where(which)
        .group_by(Study.open_since, Study.id)  # the order of the index
    )
    return {study_id: (count, newest or 0) for study_id, count, newest in rows}


def _load_announcements(
    session: Session, which: ColumnElement[bool]
) -> dict[str, list[tuple[str, list[str]]]]:
    """Return status and instances of what was announced, by Study Instance UID."""
    rows = session.execute(
        select(Announcement.study_instance_uid, Announcement.status, Announcement.sop_instance_uids)
        .join(Study, Study.study_instance_uid == Announcement.study_instance_uid)
        .where(which)
    )
    said: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for uid, status, uids in rows:
        said[uid].append((status, uids))
    return said


def _announced(
    said: Collection[tuple[str, list[str]]], content: _Content
) -> tuple[int, Tally | None]:
    """Return how many steps go on, and what the others and the notifications list.

    Lists prove nothing while an image is here that none of them has: its own may be still to come.
    """
    in_progress = sum(status == IN_PROGRESS for status, _ in said)
    listed = {one for status, uids in said if status != IN_PROGRESS for one in uids}
    if not listed:
        return in_progress, None
    missing = len(listed.difference(content.uids))
    return in_progress, Tally(len(listed), missing, is_final=content.images <= listed)


@dataclass(slots=True)
class _Closing:
    """The associations that brought what is new."""

    open: int = 0
    last_at: float | None = None
    last_outcome: str | None = None
    senders: set[str] = field(default_factory=set)


def _load_associations(session: Session, which: ColumnElement[bool]) -> dict[int, _Closing]:
    """Return how many associations are open, and when and how the last other one closed."""
    rows = session.execute(
        select(
            Study.id,
            Association.id,
            Association.closed_at,
            Association.outcome,
            Association.calling_ae_title,
        )
        .join(Series, Series.study_id == Study.id)
        .join(Instance, Instance.series_id == Series.id)
        .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
        .join(Association, Association.id == ReceivedObject.association_id)
        .where(which, is_new())
        .distinct()
        .order_by(Association.closed_at.nulls_first())
    )
    closing: dict[int, _Closing] = defaultdict(_Closing)
    for study_id, _, closed_at, outcome, sender in rows:
        one = closing[study_id]
        one.open += closed_at is None
        one.last_at, one.last_outcome = closed_at, outcome
        one.senders.add(sender)
    return closing
