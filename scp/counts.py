"""What sources and objects say about how much belongs to a study, against what is here. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ledger.domain import InstanceFacts
from scp.completeness import Tally

NO_IMAGES = frozenset({"SR", "PR", "KO", "SEG", "DOC", "REG", "RWV", "FID", "AU", "OT"})
"""Modalities of series that a source may hold and not send: nobody waits for them."""


@dataclass(frozen=True, slots=True)
class SourceSeries:
    """A series as a source describes it."""

    series_instance_uid: str
    modality: str
    instances: int


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What a source holds of a study."""

    series: tuple[SourceSeries, ...]
    is_final: bool
    """it had all of the study before it began to send"""


def compare_source(
    answer: SourceAnswer, held: Mapping[str, int], own_series: Collection[str]
) -> Tally:
    """Return what a source holds that isn't here, series by series.

    Left out are our own results and series without images that are not here: sources often keep
    those to themselves. A source that knows less than is here proves nothing, whatever the site
    says of it: somebody else sends too, or it is behind.
    """
    wanted = [
        one
        for one in answer.series
        if one.series_instance_uid not in own_series
        and (one.modality not in NO_IMAGES or one.series_instance_uid in held)
    ]
    there = {one.series_instance_uid: one.instances for one in wanted}
    missing = sum(max(0, count - held.get(uid, 0)) for uid, count in there.items())
    others = (uid for uid in held if uid not in own_series)
    knows_all = all(held[uid] <= there.get(uid, 0) for uid in others)
    return Tally(sum(there.values()), missing, answer.is_final and knows_all)


def most_telling(tallies: Collection[Tally]) -> Tally | None:
    """Return the one that counts of what several sources say: most missing, then proof."""
    return max(tallies, key=lambda one: (one.missing, one.is_met), default=None)


def state_counts(instances: Collection[InstanceFacts], series: int) -> Tally | None:
    """Return what the objects say about the size of their study.

    (0020,1208) and (0020,1206) prove something only where all objects that have them agree, and
    where not more is here: one that is written while a study grows counts what was there then.
    """
    totals = {one.number_of_study_related_instances for one in instances} - {0}
    of_series = {one.number_of_study_related_series for one in instances} - {0}
    if not totals and not of_series:
        return None
    expected = max(totals, default=0)
    missing = max(0, expected - len(instances), max(of_series, default=0) - series)
    is_final = len(totals) == 1 and expected >= len(instances)
    return Tally(max(expected, len(instances)), missing, is_final)
