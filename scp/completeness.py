"""When is a study complete? Pure: evidence and clock in, verdict or ``None`` out.

What proves completeness closes a study at once. Silence proves nothing: how long it must last
depends on what the images are and on what is known to be missing. Rules are asked in order; the
first that knows decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from scp.config import CompletenessConfig

RELEASED = "released"
"""Outcome of an association whose sender said that it was done (A-RELEASE, PS3.8 section 7.2)"""
UPLOADED = "uploaded"
"""Outcome of an upload: a person has chosen the files, and all of them are here"""


class Confidence(StrEnum):
    """How sure a verdict is."""

    PROVEN = "proven"
    """somebody who knows has named what belongs to the study, and it is here"""
    LIKELY = "likely"
    """nothing came any more and nothing is known to be missing"""
    DOUBTFUL = "doubtful"
    """something is missing, or its sender was cut off"""


@dataclass(frozen=True, slots=True)
class Tally:
    """What somebody says belongs to the study, and how much of that is not here."""

    expected: int
    missing: int
    is_final: bool = True
    """whether it counts the whole study, and not only what there is of it so far"""

    @property
    def is_met(self) -> bool:
        """Whether it proves that the study is complete."""
        return self.is_final and self.expected > 0 and self.missing == 0


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
    has_stack: bool = False
    """whether a series is built of slices"""
    steps_in_progress: int = 0
    """performed procedure steps that go on (MPPS)"""
    announced: Tally | None = None
    """instances that ended steps (MPPS) and availability notifications (IAN) list"""
    source: Tally | None = None
    """what the sender holds (C-FIND)"""
    stated: Tally | None = None
    """Number of Study Related Instances and Series in the objects"""
    missing: tuple[str, ...] = ()
    """what the objects of a series show to be missing of it"""

    @property
    def tallies(self) -> dict[str, Tally]:
        """What there is of counts of the whole study, the most trusted first."""
        named = {
            "the procedure steps and notifications list": self.announced,
            "the source holds": self.source,
            "the objects count": self.stated,
        }
        return {who: tally for who, tally in named.items() if tally is not None}

    @property
    def lacks(self) -> tuple[str, ...]:
        """Everything that is known to be missing, in words."""
        short = tuple(
            f"{tally.missing} of the {tally.expected} instances that {who}"
            for who, tally in self.tallies.items()
            if tally.missing
        )
        return (*short, *self.missing)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A study is complete: a stable code, the reason as a sentence, and how sure that is."""

    code: str
    reason: str
    confidence: Confidence


Rule: TypeAlias = Callable[[StudyEvidence, CompletenessConfig, float], Verdict | None]

PROOFS = {
    "the procedure steps and notifications list": "ANNOUNCED_INSTANCES_HELD",
    "the source holds": "SOURCE_COUNT_REACHED",
    "the objects count": "STATED_COUNT_REACHED",
}


def _uploaded(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    closed_at = evidence.last_closed_at
    if evidence.open_associations or evidence.last_outcome != UPLOADED or closed_at is None:
        return None
    if evidence.read_until is not None and evidence.read_until <= closed_at:
        return None  # some of it is unread
    reason = f"Every file of the upload is here ({_counts(evidence)})."
    return Verdict("UPLOAD_COMPLETE", reason, Confidence.PROVEN)


def _proven(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    tallies = evidence.tallies
    if evidence.steps_in_progress or any(tally.missing for tally in tallies.values()):
        return None
    for who, tally in tallies.items():
        if tally.is_met:
            but = f" There still lack {'; '.join(evidence.missing)}." if evidence.missing else ""
            reason = f"All {tally.expected} instances that {who} are here ({_counts(evidence)})."
            return Verdict(PROOFS[who], reason + but, Confidence.PROVEN)
    return None


def _quiet(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    quiet_s = _quiet_s(evidence, now)
    if evidence.open_associations or evidence.steps_in_progress:
        return None
    if quiet_s < _patience_s(evidence, config):
        return None
    if lacks := evidence.lacks:
        return Verdict(
            "QUIET_THOUGH_INCOMPLETE",
            f"Nothing came for {quiet_s:.1f} s, but there lack {'; '.join(lacks)}"
            f" ({_counts(evidence)}).",
            Confidence.DOUBTFUL,
        )
    if evidence.last_outcome == RELEASED:
        return Verdict(
            "ASSOCIATION_RELEASED_AND_QUIET",
            "Every association was closed, the last one released, and nothing came for "
            f"{quiet_s:.1f} s ({_counts(evidence)}).",
            Confidence.LIKELY,
        )
    return Verdict(
        "ASSOCIATION_BROKEN_AND_QUIET",
        f"The last association was {evidence.last_outcome or 'lost'}, and its sender did not come "
        f"back for {quiet_s:.1f} s ({_counts(evidence)}).",
        Confidence.DOUBTFUL,
    )


def _quiet_s(evidence: StudyEvidence, now: float) -> float:
    """Return for how long nothing came, in seconds, as far as headers are read."""
    known_until = now if evidence.read_until is None else min(now, evidence.read_until)
    return known_until - max(evidence.last_received_at, evidence.last_closed_at or 0.0)


def _patience_s(evidence: StudyEvidence, config: CompletenessConfig) -> float:
    """Return how long the silence has to last, in seconds."""
    patience = [config.quiet_s]
    if evidence.has_stack:
        patience.append(config.stack_quiet_s)
    if evidence.lacks:
        patience.append(config.missing_quiet_s)
    if evidence.last_outcome != RELEASED:
        patience.append(config.broken_quiet_s)
    return max(patience)


def _cap(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    if now - evidence.open_since < config.cap_s:
        return None
    if evidence.open_associations:
        state = f"{evidence.open_associations} association(s) still open"
    else:
        state = f"the last association {evidence.last_outcome or 'not known'}"
    lacks = f"; there lack {'; '.join(evidence.lacks)}" if evidence.lacks else ""
    return Verdict(
        "QUIET_CAP",
        f"Waited {config.cap_s:g} s since the first instance, {state} ({_counts(evidence)})"
        f"{lacks}.",
        Confidence.DOUBTFUL,
    )


RULES: tuple[Rule, ...] = (_uploaded, _proven, _quiet, _cap)
"""in the order they are asked"""


def judge(evidence: StudyEvidence, config: CompletenessConfig, now: float) -> Verdict | None:
    """Return why the study is complete now, or ``None`` while it may still grow."""
    for rule in RULES:
        if (verdict := rule(evidence, config, now)) is not None:
            return verdict
    return None


def _counts(evidence: StudyEvidence) -> str:
    return f"{evidence.instances} new instance(s) in {evidence.series} series"
