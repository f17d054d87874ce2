from __future__ import annotations

from dataclasses import replace

import pytest

from scp.completeness import Confidence, StudyEvidence, Tally, judge
from scp.config import CompletenessConfig

CONFIG = CompletenessConfig(
    quiet_s=3.0, stack_quiet_s=10.0, missing_quiet_s=20.0, broken_quiet_s=30.0, cap_s=60.0
)
DONE = StudyEvidence(
    open_since=100.0,
    last_received_at=110.0,
    instances=40,
    series=2,
    open_associations=0,
    last_closed_at=111.0,
    last_outcome="released",
)


def code(evidence: StudyEvidence, now: float, config: CompletenessConfig = CONFIG) -> str | None:
    verdict = judge(evidence, config, now)
    return None if verdict is None else verdict.code


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (110.0, None),
        (113.9, None),  # 3 s after the last object, but not after the release
        (114.0, "ASSOCIATION_RELEASED_AND_QUIET"),
        (159.9, "ASSOCIATION_RELEASED_AND_QUIET"),
        (1000.0, "ASSOCIATION_RELEASED_AND_QUIET"),
    ],
)
def test_released_and_quiet(now: float, expected: str | None) -> None:
    assert code(DONE, now) == expected


@pytest.mark.parametrize(
    ("change", "now", "expected"),
    [
        ({"open_associations": 1}, 159.9, None),
        ({"open_associations": 1}, 160.0, "QUIET_CAP"),
        ({"open_associations": 1, "last_closed_at": None, "last_outcome": None}, 159.9, None),
        ({"last_outcome": "aborted"}, 140.9, None),
        ({"last_outcome": "lost"}, 140.9, None),
        ({"last_outcome": "aborted"}, 141.0, "ASSOCIATION_BROKEN_AND_QUIET"),
        ({"last_outcome": "lost"}, 141.0, "ASSOCIATION_BROKEN_AND_QUIET"),
        # it came back and was cut again: its patience counts anew, up to the cap
        ({"last_outcome": "lost", "last_received_at": 135.0}, 159.9, None),
        ({"last_outcome": "lost", "last_received_at": 135.0}, 160.0, "QUIET_CAP"),
        # an object that came after the release, by another association that is closed as well
        ({"last_received_at": 120.0}, 122.9, None),
        ({"last_received_at": 120.0}, 123.0, "ASSOCIATION_RELEASED_AND_QUIET"),
    ],
)
def test_waits_for_senders_but_not_for_ever(
    change: dict[str, object], now: float, expected: str | None
) -> None:
    assert code(replace(DONE, **change), now) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("read_until", "now", "expected"),
    [
        (113.0, 130.0, None),  # what came since 113 may be of this study: silence isn't known
        (114.0, 130.0, "ASSOCIATION_RELEASED_AND_QUIET"),
        (113.0, 160.0, "QUIET_CAP"),
        (500.0, 113.0, None),  # a clock that is ahead proves nothing
    ],
)
def test_silence_counts_only_as_far_as_headers_were_read(
    read_until: float, now: float, expected: str | None
) -> None:
    assert code(replace(DONE, read_until=read_until), now) == expected


def test_no_quiet_period_closes_at_the_release() -> None:
    config = CompletenessConfig(quiet_s=0.0, cap_s=60.0)
    assert code(DONE, 111.0, config) == "ASSOCIATION_RELEASED_AND_QUIET"


def test_verdict_says_what_was_seen() -> None:
    verdict = judge(DONE, CONFIG, 115.5)
    assert verdict is not None
    assert "4.5 s" in verdict.reason
    assert "40 new instance(s) in 2 series" in verdict.reason

    verdict = judge(replace(DONE, open_associations=2), CONFIG, 200.0)
    assert verdict is not None
    assert "60 s" in verdict.reason
    assert "2 association(s) still open" in verdict.reason

    verdict = judge(replace(DONE, last_outcome="aborted"), CONFIG, 150.0)
    assert verdict is not None
    assert "The last association was aborted" in verdict.reason
    assert "39.0 s" in verdict.reason


LISTED = {"announced": Tally(40, 0)}
HELD = {"source": Tally(40, 0)}
COUNTED = {"stated": Tally(40, 0)}
SHORT = Tally(41, 1)
RECEIVING: dict[str, object] = {"open_associations": 1, "last_closed_at": None}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # whoever knows has named what belongs to the study: at once, whatever is still open
        (LISTED, "ANNOUNCED_INSTANCES_HELD"),
        (HELD, "SOURCE_COUNT_REACHED"),
        (COUNTED, "STATED_COUNT_REACHED"),
        (LISTED | HELD | COUNTED, "ANNOUNCED_INSTANCES_HELD"),
        (HELD | RECEIVING, "SOURCE_COUNT_REACHED"),
        (HELD | {"has_stack": True}, "SOURCE_COUNT_REACHED"),
        (HELD | {"missing": ("3 slices",)}, "SOURCE_COUNT_REACHED"),
        # a count of what there is so far, or of nothing, proves nothing
        ({"source": Tally(40, 0, is_final=False)}, None),
        ({"source": Tally(0, 0)}, None),
        ({"stated": Tally(40, 0, is_final=False)} | LISTED, "ANNOUNCED_INSTANCES_HELD"),
        # whoever knows better contradicts
        (HELD | {"steps_in_progress": 1}, None),
        (HELD | {"announced": SHORT}, None),
        (LISTED | {"source": SHORT}, None),
        (LISTED | {"source": Tally(41, 1, is_final=False)}, None),
        (LISTED | {"stated": SHORT}, None),
    ],
)
def test_proof_closes_at_once_unless_contradicted(
    change: dict[str, object], expected: str | None
) -> None:
    assert code(replace(DONE, **change), 111.0) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "closes_at", "expected"),
    [
        ({}, 114.0, "ASSOCIATION_RELEASED_AND_QUIET"),
        ({"has_stack": True}, 121.0, "ASSOCIATION_RELEASED_AND_QUIET"),
        ({"missing": ("3 slices",)}, 131.0, "QUIET_THOUGH_INCOMPLETE"),
        ({"source": SHORT}, 131.0, "QUIET_THOUGH_INCOMPLETE"),
        ({"source": SHORT, "last_outcome": "lost"}, 141.0, "QUIET_THOUGH_INCOMPLETE"),
        ({"has_stack": True, "last_outcome": "lost"}, 141.0, "ASSOCIATION_BROKEN_AND_QUIET"),
        ({"steps_in_progress": 1}, 160.0, "QUIET_CAP"),
        ({"source": SHORT, "open_associations": 1}, 160.0, "QUIET_CAP"),
        (
            {"open_associations": 0, "last_outcome": None, "last_closed_at": 140.0},
            160.0,
            "QUIET_CAP",
        ),
    ],
)
def test_how_long_silence_must_last(
    change: dict[str, object], closes_at: float, expected: str
) -> None:
    evidence = replace(DONE, **change)  # type: ignore[arg-type]
    assert code(evidence, closes_at - 0.1) is None
    assert code(evidence, closes_at) == expected


def test_upload_is_complete_when_all_of_it_is_read() -> None:
    uploaded = replace(DONE, last_outcome="uploaded")
    assert code(uploaded, 111.0) == "UPLOAD_COMPLETE"
    assert code(replace(uploaded, read_until=110.5), 111.0) is None
    assert code(replace(uploaded, open_associations=1), 111.0) is None


@pytest.mark.parametrize(
    ("change", "now", "confidence", "words"),
    [
        (HELD, 111.0, Confidence.PROVEN, "All 40 instances that the source holds are here"),
        (HELD | {"missing": ("3 slices",)}, 111.0, Confidence.PROVEN, "There still lack 3 slices"),
        ({}, 114.0, Confidence.LIKELY, "nothing came for 3.0 s"),
        (
            {"source": SHORT, "missing": ("3 slices",)},
            131.0,
            Confidence.DOUBTFUL,
            "there lack 1 of the 41 instances that the source holds; 3 slices",
        ),
        (
            {"open_associations": 1, "announced": SHORT},
            160.0,
            Confidence.DOUBTFUL,
            "there lack 1 of the 41 instances that the procedure steps and notifications list",
        ),
        ({"last_outcome": "lost"}, 141.0, Confidence.DOUBTFUL, "The last association was lost"),
    ],
)
def test_verdict_carries_reason_and_confidence(
    change: dict[str, object], now: float, confidence: Confidence, words: str
) -> None:
    verdict = judge(replace(DONE, **change), CONFIG, now)  # type: ignore[arg-type]
    assert verdict is not None
    assert verdict.confidence is confidence
    assert words in verdict.reason
