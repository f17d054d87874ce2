"""When is a study complete? Pure: evidence and clock in, verdict or ``None`` out.

Rules are asked in order; the first that knows decides. Evidence from the objects themselves
belongs in front of the timers, which know nothing but silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from scp.config import CompletenessConfig

RELEASED = "released"
"""Outcome of an association whose sender said that it was done (A-RELEASE, PS3.8 section 7.2)"""
UPLOADED = "uploaded"
"""Outcome of an upload: a person has chosen the files, and all of them are here"""


@dataclass(frozen=True, slots=True)
class StudyEvidence:
    """What is known of a study and of the associations that brought what no revision holds yet.

    Times are seconds since 1970-01-01 UTC.
    """

    open_since: float
    """arrival of the first instance that no revision holds"""
    last_received_at: float
    instances: int
    """current instances that no revision holds"""
    series: int
    """series that these are in"""
    open_associations: int
    """associations that brought some of them and are still open"""
    last_closed_at: float | None = None
    """when the last of the others closed"""
    last_outcome: str | None = None
    """how it closed"""
    read_until: float | None = None
    """arrival of the oldest object whose header is unread, of whatever study; null if all are
    read. Silence counts only until then."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A study is complete: a stable code, and the reason as a sentence."""

    code: str
    reason: str


Rule: TypeAlias = Callable[[StudyEvidence, CompletenessConfig, float], Verdict | None]


def _uploaded(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    closed_at = evidence.last_closed_at
    if evidence.open_associations or evidence.last_outcome != UPLOADED or closed_at is None:
        return None
    if evidence.read_until is not None and evidence.read_until <= closed_at:
        return None  # some of it is unread
    return Verdict("UPLOAD_COMPLETE", f"Every file of the upload is here ({_counts(evidence)}).")


def _broken_and_quiet(
    evidence: StudyEvidence, config: CompletenessConfig, now: float
) -> Verdict | None:
    quiet_s = _quiet_s(evidence, now)
    if evidence.open_associations or quiet_s < config.broken_quiet_s:
        return None
    return Verdict(
        "ASSOCIATION_BROKEN_AND_QUIET",
        f"The last association was {evidence.last_outcome or 'lost'}, and its sender did not come "
        f"back for {quiet_s:.1f} s ({_counts(evidence)}).",
    )


def _quiet_s(evidence: StudyEvidence, now: float) -> float:
    """Return for how long nothing came, in seconds, as far as headers are read."""
    known_until = now if evidence.read_until is None else min(now, evidence.read_until)
    return known_until - max(evidence.last_received_at, evidence.last_closed_at or 0.0)


def _released_and_quiet(
    evidence: StudyEvidence, config: CompletenessConfig, now: float
) -> Verdict | None:
    if evidence.open_associations or evidence.last_outcome != RELEASED:
        return None
    quiet_s = _quiet_s(evidence, now)
    if quiet_s < config.quiet_s:
        return None
    return Verdict(
        "ASSOCIATION_RELEASED_AND_QUIET",
        f"Every association was closed, the last one released, and nothing came for {quiet_s:.1f} s"
        f" ({_counts(evidence)}).",
    )


def _cap(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    if now - evidence.open_since < config.cap_s:
        return None
    if evidence.open_associations:
        state = f"{evidence.open_associations} association(s) still open"
    else:
        state = f"the last association {evidence.last_outcome or 'not known'}"
    return Verdict(
        "QUIET_CAP",
        f"Waited {config.cap_s:g} s since the first instance, {state} ({_counts(evidence)}).",
    )


RULES: tuple[Rule, ...] = (_uploaded, _released_and_quiet, _broken_and_quiet, _cap)
"""in the order they are asked"""


def judge(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    """Return why the study is complete now, or ``None`` while it may still grow."""
    for rule in RULES:
        if (verdict := rule(evidence, config, now)) is not None:
            return verdict
    return None


def _counts(evidence: StudyEvidence) -> str:
    return f"{evidence.instances} new instance(s) in {evidence.series} series"
