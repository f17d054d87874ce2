"""When studies are declared complete: simulated sends, and a few real ones.

``python -m benchmarks.completeness`` prints the table of simulated sends: the real rules with a
clock of their own, many random studies a row. Early is a study that is closed before its last
object came; saved are the seconds against a timer of 60 s. ``--real`` sends to a real listener,
with a real Orthanc as source and real procedure steps.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ledger.domain import InstanceFacts
from scp.completeness import RELEASED, StudyEvidence, Tally, judge
from scp.config import CompletenessConfig
from scp.counts import SourceAnswer, SourceSeries, compare_source, state_counts
from scp.evidence import BURST_S
from scp.sources import ASK_AGAIN_S, LEAST_PAUSE_S
from scp.stacks import SeriesState, examine

TIMER_S = 60.0
TICK_S = 0.1
ANSWER_S = 0.2  # how long a source takes to answer
STUDIES = 20  # random ones in each row
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
RATE = 50  # objects a second


@dataclass(frozen=True, slots=True)
class Arrival:
    """One object: when it came, by which association, and when the source had it itself."""

    at: float
    association: int
    facts: InstanceFacts


@dataclass(frozen=True, slots=True)
class Sending:
    """A whole send; associations are open from their first to their last object.

    Of two senders the first one's is the source that can be asked; the other doesn't answer.
    """

    arrivals: Sequence[Arrival]

    @property
    def last_at(self) -> float:
        return self.arrivals[-1].at


def series(rng: random.Random, number: int = 1, slices: int = 0) -> list[InstanceFacts]:
    """Return the slices of a series in their order."""
    spacing = rng.choice([1.0, 2.5, 5.0])
    return [
        InstanceFacts(
            study_instance_uid="1",
            series_instance_uid=f"1.{number}",
            sop_instance_uid=f"1.{number}.{index}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="",
            modality="CT",
            image_position=(0.0, 0.0, spacing * index),
            image_orientation=AXIAL,
        )
        for index in range(slices or rng.randint(20, 200))
    ]


def send(parts: Sequence[tuple[float, Sequence[InstanceFacts]]]) -> Sending:
    """Send each part at its time over an association of its own."""
    arrivals = [
        Arrival(start + index / RATE, number, facts)
        for number, (start, objects) in enumerate(parts)
        for index, facts in enumerate(objects)
    ]
    return Sending(sorted(arrivals, key=lambda one: one.at))


def in_chunks(
    rng: random.Random, objects: Sequence[InstanceFacts]
) -> list[tuple[float, Sequence[InstanceFacts]]]:
    """Part a send, with pauses of 1 to 30 s between the parts."""
    parts, at, rest = [], 0.0, list(objects)
    while rest:
        size = rng.randint(1, max(1, len(objects) // 3))
        chunk, rest = rest[:size], rest[size:]
        parts.append((at, chunk))
        at += len(chunk) / RATE + rng.uniform(1.0, 30.0)
    return parts


def shuffled(rng: random.Random, objects: Sequence[InstanceFacts]) -> list[InstanceFacts]:
    return rng.sample(objects, len(objects))


def late_slice(rng: random.Random, index: Callable[[int], int]) -> Sending:
    objects = series(rng)
    late = objects.pop(index(len(objects)))
    return send([(0.0, objects), (len(objects) / RATE + rng.uniform(40.0, 100.0), [late])])


def never(rng: random.Random) -> Sending:
    objects = series(rng)
    objects.pop(len(objects) // 2)
    return send([(0.0, objects)])


def late_series(rng: random.Random) -> Sending:
    first = series(rng)
    return send([(0.0, first), (len(first) / RATE + rng.uniform(5.0, 30.0), series(rng, 2))])


def interleaved(rng: random.Random) -> Sending:
    pairs = zip(series(rng, 1, 90), series(rng, 2, 90), strict=True)
    return send(in_chunks(rng, [one for pair in pairs for one in pair]))


def two_senders(rng: random.Random) -> Sending:
    return send([(0.0, series(rng, 1)), (rng.uniform(0.0, 30.0), series(rng, 2))])


SENDS: dict[str, Callable[[random.Random], Sending]] = {
    "in order": lambda rng: send([(0.0, series(rng))]),
    "shuffled": lambda rng: send([(0.0, shuffled(rng, series(rng)))]),
    "in order, pauses of 1 to 30 s": lambda rng: send(in_chunks(rng, series(rng))),
    "shuffled, pauses of 1 to 30 s": lambda rng: send(in_chunks(rng, shuffled(rng, series(rng)))),
    "two series interleaved, pauses": interleaved,
    "a slice inside comes 40 to 100 s late": lambda rng: late_slice(rng, lambda n: n // 2),
    "a slice inside never comes": never,
    "a series comes 5 to 30 s late": late_series,
    "two senders, up to 30 s apart": two_senders,
}
UNKNOWABLE: dict[str, Callable[[random.Random], Sending]] = {
    "the last slice comes 40 to 100 s late": lambda rng: late_slice(rng, lambda n: n - 1),
}


class Witness:
    """What a source answers, and what was announced, at any time of a send."""

    def __init__(self, kind: str, sending: Sending) -> None:
        self._kind = kind
        self._sending = sending
        self.examined: dict[int, list[SeriesState]] = {}
        self._asked: list[tuple[float, int]] = []  # when, and what was held then

    def source(self, held: Sequence[Arrival], now: float) -> Tally | None:
        if self._kind not in ("whole", "growing"):
            return None
        last_at, last_held = self._asked[-1] if self._asked else (float("-inf"), -1)
        is_due = now - last_at >= ASK_AGAIN_S or last_held != len(held)
        if is_due and now - last_at >= LEAST_PAUSE_S:
            self._asked.append((now, len(held)))
        answered = [at for at, _ in self._asked if at + ANSWER_S <= now]
        if not answered:
            return None
        there = [
            one.facts
            for one in self._sending.arrivals
            if self._kind == "whole" or one.at <= answered[-1]
        ]
        answer = SourceAnswer(
            tuple(SourceSeries(uid, "CT", count) for uid, count in counted(there).items()),
            is_final=self._kind == "whole",
        )
        return compare_source(answer, counted([one.facts for one in held]), ())

    def step(self, held: Sequence[Arrival], now: float) -> tuple[int, Tally | None]:
        """One step of the modality: in progress until it has sent everything, a second longer."""
        if self._kind != "mpps":
            return 0, None
        if now < self._sending.last_at + 1.0:
            return 1, None
        return 0, Tally(len(self._sending.arrivals), len(self._sending.arrivals) - len(held))


def counted(instances: Sequence[InstanceFacts]) -> dict[str, int]:
    uids = [one.series_instance_uid for one in instances]
    return {uid: uids.count(uid) for uid in dict.fromkeys(uids)}


def close_time(sending: Sending, kind: str, config: CompletenessConfig) -> tuple[float, str]:
    """Return when a study is declared complete, and the code."""
    witness, now = Witness(kind, sending), 0.0
    ends = {one.association: one.at + 0.05 for one in sending.arrivals}
    while True:
        now += TICK_S
        held = [one for one in sending.arrivals if one.at <= now]
        if (verdict := judge(evidence_at(held, ends, witness, now), config, now)) is not None:
            return now, verdict.code


def evidence_at(
    held: Sequence[Arrival], ends: dict[int, float], witness: Witness, now: float
) -> StudyEvidence:
    begun = {one.association for one in held}
    closed = [ends[number] for number in begun if ends[number] <= now]
    facts = [one.facts for one in held]
    evidence = StudyEvidence(
        open_since=held[0].at,
        last_received_at=held[-1].at,
        instances=len(held),
        series=len(counted(facts)),
        open_associations=len(begun) - len(closed),
        last_closed_at=max(closed, default=None),
        last_outcome=RELEASED if closed else None,
    )
    if now - held[-1].at < BURST_S:
        return replace(evidence, has_stack=True)
    if len(held) not in witness.examined:  # as the service does: again when another object came
        by_series = [
            [one for one in facts if one.series_instance_uid == uid] for uid in counted(facts)
        ]
        witness.examined[len(held)] = [examine(instances) for instances in by_series]
    states = witness.examined[len(held)]
    in_progress, announced = witness.step(held, now)
    return replace(
        evidence,
        has_stack=any(state.is_stack for state in states),
        missing=tuple(text for state in states for text in state.missing),
        stated=state_counts(facts, len(states)),
        source=witness.source(held, now),
        steps_in_progress=in_progress,
        announced=announced,
    )


KINDS = {
    "none": "nobody can be asked",
    "growing": "source answers, grows itself",
    "whole": "source answers, sends whole studies",
    "mpps": "procedure step",
}


def simulate(studies: int) -> None:
    config = CompletenessConfig()
    print(f"{studies} random studies a cell: early / median seconds saved against {TIMER_S:g} s\n")
    print(f"| sent | {' | '.join(KINDS.values())} | early by the timer |")
    print("|---|" + "---|" * (len(KINDS) + 1))
    total: dict[str, list[float]] = {kind: [] for kind in KINDS}
    early_of: dict[str, int] = dict.fromkeys(KINDS, 0)
    for name, make in (SENDS | UNKNOWABLE).items():
        cells = []
        by_timer = 0
        for kind in KINDS:
            sendings = [make(random.Random(f"{name}{number}")) for number in range(studies)]
            saved, early = [], 0
            for sending in sendings:
                at, _ = close_time(sending, kind, config)
                early += at < sending.last_at
                saved.append(sending.last_at + TIMER_S - at)
            cells.append(f"{early} / {statistics.median(saved):.1f}")
            by_timer = sum(longest_pause(sending) > TIMER_S for sending in sendings)
            if name in SENDS:
                total[kind] += saved
                early_of[kind] += early
        mark = "" if name in SENDS else " (*)"
        print(f"| {name}{mark} | {' | '.join(cells)} | {by_timer} |")
    sums = (f"{early_of[kind]} / {statistics.median(total[kind]):.1f}" for kind in KINDS)
    print(f"| **all but (*)** | {' | '.join(sums)} | |")
    print("\n(*) without a witness nothing tells a stack without its last slice from a whole one.")


def longest_pause(sending: Sending) -> float:
    times = [one.at for one in sending.arrivals]
    return max(after - before for before, after in pairwise(times))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--real", action="store_true", help="real sends instead")
    arguments = parser.parse_args()
    if arguments.real:
        from benchmarks.completeness_real import send_for_real

        send_for_real()
    else:
        simulate(arguments.studies)
