"""What Pacsight holds of a study: the current version of each received instance, and the results.

Of results those of the newest revision, in the form that the web app shows; a PACS may have got
another variant of them (:mod:`dicom_out.profile`).
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from pydicom import dcmread
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from ledger.domain import InstanceFacts, ObjectState
from ledger.facts import read_facts
from ledger.queries import find_study
from ledger.store import Store
from ledger.tables import (
    Decision,
    Instance,
    ReceivedObject,
    ResultObjectRow,
    Revision,
    Series,
    Study,
)
from scp.spool import open_object
from viewer_api.context import WebContext
from viewer_api.errors import ImagesRemovedError, PageNotFoundError, WebError

SOURCE = "source"
"""Kind of a result object that is an uploaded picture itself, which is held as received."""


@dataclass(frozen=True, slots=True)
class Held:
    """An instance and where its bytes lie: a slice of a segment, or a key of the store."""

    facts: InstanceFacts
    place: str
    offset: int = 0
    size: int = 0
    is_result: bool = False

    @property
    def order(self) -> tuple[int, str, int, str]:
        """Series by their number, instances by theirs."""
        facts = self.facts
        return (
            facts.series_number,
            facts.series_instance_uid,
            facts.instance_number,
            facts.sop_instance_uid,
        )

    def open(self, context: WebContext) -> BinaryIO:
        """Open its Part 10 file.

        Raises
        ------
        ReceiveError, StoreError
            The bytes are gone or can't be read now.
        """
        if self.is_result:
            return io.BytesIO(context.store.get(self.place))
        return open_object(context.spool_dir, self.place, self.offset, self.size, context.store)


def held_of_study(
    session: Session, store: Store, study_uid: str, series_uid: str | None = None
) -> list[Held]:
    """Return everything that is held of a study or a series, in order.

    Raises
    ------
    PageNotFoundError, ImagesRemovedError
        Nothing is held of it, or no more.
    """
    received = _received().where(Study.study_instance_uid == study_uid)
    results = _results().where(Study.study_instance_uid == study_uid)
    if series_uid is not None:
        received = received.where(Series.series_instance_uid == series_uid)
        results = results.where(ResultObjectRow.series_instance_uid == series_uid)
    found = [_held(*row) for row in session.execute(received)]
    found += [_held_result(row, store) for row in session.scalars(results)]
    if not found:
        raise _missing(session, study_uid)
    return sorted(found, key=lambda one: one.order)


def held_instance(session: Session, store: Store, study: str, series: str, uid: str) -> Held:
    """Return one instance.

    Raises
    ------
    PageNotFoundError, ImagesRemovedError
        It isn't held, or no more, or belongs to another series.
    """
    row = session.execute(_received().where(Instance.sop_instance_uid == uid)).one_or_none()
    if row is not None:
        held = _held(*row)
    else:
        result = session.scalar(_results().where(ResultObjectRow.sop_instance_uid == uid))
        if result is None:
            raise _missing(session, study)
        held = _held_result(result, store)
    if (held.facts.study_instance_uid, held.facts.series_instance_uid) != (study, series):
        raise PageNotFoundError("There is no such instance in that series.")
    return held


def results_of_studies(
    session: Session, store: Store, study_ids: Iterable[int]
) -> dict[int, list[InstanceFacts]]:
    """Return what the results of some studies are, by study."""
    rows = session.execute(
        _results().add_columns(Revision.study_id).where(Revision.study_id.in_(list(study_ids)))
    )
    found: dict[int, list[InstanceFacts]] = defaultdict(list)
    for row, study_id in rows:
        found[study_id].append(_held_result(row, store).facts)
    return found


def _missing(session: Session, study_uid: str) -> WebError:
    study = find_study(session, study_uid)
    if study is not None and study.expired_at is not None:
        return ImagesRemovedError()
    return PageNotFoundError("Nothing is held under these UIDs.")


def _received() -> Select[Instance, ReceivedObject]:
    return (
        select(Instance, ReceivedObject)
        .join(ReceivedObject, ReceivedObject.id == Instance.received_object_id)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Series.study_id)
        .where(Instance.is_current, ReceivedObject.state != ObjectState.EXPIRED)
    )


def _results() -> Select[ResultObjectRow]:
    return (
        select(ResultObjectRow)
        .join(Decision, Decision.id == ResultObjectRow.decision_id)
        .join(Revision, Revision.id == Decision.revision_id)
        .join(Study, Study.id == Revision.study_id)
        .where(
            Study.expired_at.is_(None),
            or_(
                Study.remove_results_until.is_(None),
                Revision.created_at > Study.remove_results_until,
            ),
            Revision.superseded_by.is_(None),
            ResultObjectRow.kind != SOURCE,
            ResultObjectRow.variant == "",
        )
    )


def _held(instance: Instance, stored: ReceivedObject) -> Held:
    facts = InstanceFacts.from_json(instance.facts)
    return Held(facts, stored.segment, stored.offset, stored.size)


def _held_result(row: ResultObjectRow, store: Store) -> Held:
    known = row.facts
    facts = _read(store, row.path) if known is None else InstanceFacts.from_json(known)
    return Held(facts, row.path, size=row.size, is_result=True)


@lru_cache(maxsize=1024)
def _read(store: Store, path: str) -> InstanceFacts:
    """Return the facts of a result that was written before they were kept in the ledger."""
    return read_facts(dcmread(io.BytesIO(store.get(path)), stop_before_pixels=True))[0]
