"""Closing complete studies: evidence from the ledger, a verdict, and a revision to analyse."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence

from sqlalchemy import Engine, and_, select, update
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.events import record
from ledger.tables import Instance, Revision, Series, Study
from scp.arrivals import record_arrivals
from scp.completeness import Confidence, Verdict, judge
from scp.config import CompletenessConfig, StatRule
from scp.errors import StudyExpiredError, StudyHeldError
from scp.evidence import EvidenceReader, is_new
from scp.urgency import is_stat

logger = logging.getLogger(__name__)

ACTOR = "completeness"
REPLAYED = "REPLAYED"
"""Reason code of a revision that an operator has asked for"""


def close_complete_studies(
    engine: Engine,
    config: CompletenessConfig,
    *,
    now: float,
    reader: EvidenceReader | None = None,
    stat_rules: Sequence[StatRule] = (),
) -> list[int]:
    """Make a revision of every open study that is complete and that nothing holds.

    A revision analyses all current instances of its study; `Instance.revision_id` marks the first
    one that held each. Any number of processes may call it: a study is judged again under its row
    lock, so it is closed once, and an instance that arrives meanwhile opens it anew.

    Parameters
    ----------
    now
        Seconds since 1970-01-01 UTC.
    reader
        Of the evidence; the same at each call, because it remembers.
    stat_rules
        Which studies go first.

    Returns
    -------
    list of int
        Ids of the new revisions.

    Raises
    ------
    LedgerError
        The database is unreachable or stayed locked.
    """
    reader = reader or EvidenceReader()
    is_open = and_(Study.open_since >= 0.0, Study.held_code.is_(None))  # a range: it has an index
    with reading(engine) as session:
        evidence = reader.load(session, is_open, now)
    complete = [study_id for study_id, one in evidence.items() if judge(one, config, now)]
    made = []
    for study_id in complete:
        with transaction(engine) as session:
            revision = _close(session, study_id, config, now, reader, stat_rules)
            if revision is not None:
                made.append(revision)
    return made


def replay_study(
    session: Session, study: Study, *, now: float, stat_rules: Sequence[StatRule]
) -> int | None:
    """Make a revision of everything a study holds, whether anything is new or not.

    Parameters
    ----------
    now
        Seconds since 1970-01-01 UTC.
    stat_rules
        Which studies go first.

    Returns
    -------
    int or None
        Number of the new revision; None if the study holds no instance.

    Raises
    ------
    StudyHeldError
        Somebody has to decide first.
    StudyExpiredError
        Its images are gone.
    """
    session.get(Study, study.id, with_for_update=True)  # one revision number at a time
    if study.held_code is not None:
        raise StudyHeldError
    if study.expired_at is not None:
        raise StudyExpiredError
    query = select(Instance.id).join(Series).where(Series.study_id == study.id).limit(1)
    if session.scalar(query) is None:
        return None
    verdict = Verdict(REPLAYED, "An operator asked for it.", Confidence.LIKELY)
    revision = add_revision(session, study, verdict, now)
    revision.is_stat = is_stat(EvidenceReader().request(session, study.id), stat_rules)
    return revision.number


def _close(
    session: Session,
    study_id: int,
    config: CompletenessConfig,
    now: float,
    reader: EvidenceReader,
    stat_rules: Sequence[StatRule],
) -> int | None:
    study = session.scalar(
        select(Study)
        .where(Study.id == study_id, Study.open_since >= 0.0, Study.held_code.is_(None))
        .with_for_update(skip_locked=True)
    )
    if study is None:
        return None  # another process has it
    evidence = reader.load(session, Study.id == study_id, now)[study_id]
    verdict = judge(evidence, config, now)
    if verdict is None:
        return None
    if evidence.instances == 0:  # what was new came again, as part of another study
        study.open_since, study.changed_at = None, now
        return None
    revision = add_revision(session, study, verdict, now)
    revision.is_stat = is_stat(reader.request(session, study_id), stat_rules)
    reader.forget(study_id)
    logger.info("study %d: revision %d, %s", study.id, revision.number, verdict.code)
    return revision.id


def add_revision(session: Session, study: Study, verdict: Verdict, now: float) -> Revision:
    """Make a revision of everything a study holds now; it supersedes those before it."""
    newest = session.scalar(
        select(Revision).where(Revision.study_id == study.id).order_by(Revision.number.desc())
    )
    number = 1 if newest is None else newest.number + 1
    session.execute(
        update(Revision).where(Revision.study_id == study.id).values(superseded_by=number)
    )
    revision = Revision(
        study_id=study.id,
        number=number,
        reason_code=verdict.code,
        reason=verdict.reason,
        confidence=verdict.confidence,
        is_stat=newest is not None and newest.is_stat,
        created_at=now,
        trace_id=secrets.token_hex(16),
    )
    session.add(revision)
    session.flush()
    series = select(Series.id).where(Series.study_id == study.id)
    session.execute(
        update(Instance)
        .where(Instance.series_id.in_(series), is_new())
        .values(revision_id=revision.id)
        .execution_options(synchronize_session=False)
    )
    study.open_since, study.changed_at = None, now
    record_arrivals(session, study, revision, now)
    record(
        session,
        actor=ACTOR,
        action="study.complete",
        subject=study.study_instance_uid,
        detail={
            "revision": revision.number,
            "code": verdict.code,
            "reason": verdict.reason,
            "confidence": verdict.confidence,
        },
        now=now,
    )
    return revision
