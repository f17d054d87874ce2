"""What headers show to be missing of a series."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ledger.domain import InstanceFacts
from scp.config import StatRule
from scp.stacks import examine
from scp.urgency import Request, is_stat

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ONE = InstanceFacts("1.2", "1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.2", "", modality="CT")


def stack(places: list[float], **changes: object) -> list[InstanceFacts]:
    slices = [replace(ONE, image_position=(5.0, -7.0, z), image_orientation=AXIAL) for z in places]
    return [replace(one, **changes) for one in slices]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("instances", "is_stack", "missing"),
    [
        ([], False, ()),
        ([ONE], False, ()),
        (stack([0.0]), True, ()),
        (stack([0, 5]), True, ()),  # of two nobody knows the spacing
        (stack([20, 0, 10, 5, 15]), True, ()),
        (stack([0, 5, 15, 20]), True, ("1 slices in gaps of a stack",)),
        (stack([-30, 0, 3, 9]), True, ("10 slices in gaps of a stack",)),
        (stack([0, 5, 5.001, 10]), True, ()),  # two at one place are no spacing
        (stack([0, 5, 15, 20], image_orientation=()), False, ()),
        (stack([0, 50, 60], image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), False, ()),
        (stack([0], number_of_frames=40), False, ()),
        (
            stack([0, 5], images_in_acquisition=3),
            True,
            ("1 of 3 images of an acquisition",),
        ),
        (
            stack([0], images_in_acquisition=1)
            + stack([5], images_in_acquisition=2, acquisition_number=2),
            True,
            ("1 of 2 images of an acquisition",),
        ),
        (
            stack([0, 5], number_of_series_related_instances=4),
            True,
            ("2 of the 4 instances that a series counts",),
        ),
        (
            stack([0, 0, 5], number_of_temporal_positions=2),
            True,
            ("1 slices of 2 temporal positions",),
        ),
        (stack([0, 0, 5, 5], number_of_temporal_positions=2), True, ()),
        (
            [replace(ONE, concatenation_uid="1.9", in_concatenation_total_number=3)] * 2,
            False,
            ("1 of 3 concatenation parts",),
        ),
    ],
)
def test_examine(instances: list[InstanceFacts], is_stack: bool, missing: tuple[str, ...]) -> None:
    state = examine(instances)
    assert state.is_stack is is_stack
    assert state.missing == missing


def test_oblique_stack_is_measured_along_its_normal() -> None:
    tilted = (0.0, 0.8, 0.6)
    places = [tuple(k * 4.0 * part for part in tilted) for k in (0, 1, 2, 4)]
    normal_to_it = (1.0, 0.0, 0.0, 0.0, 0.6, -0.8)
    instances = [
        replace(ONE, image_position=place, image_orientation=normal_to_it) for place in places
    ]
    assert examine(instances).missing == ("1 slices in gaps of a stack",)


ROUTINE = Request(
    store_priorities={0, 2, None},
    requested_procedure_priorities={"", "ROUTINE"},
    calling_ae_titles={"CT01"},
    modalities={"CT"},
    body_parts_examined={"CHEST"},
    study_description="Chest routine",
)


@pytest.mark.parametrize(
    ("request_", "rules", "expected"),
    [
        (ROUTINE, (), False),
        (replace(ROUTINE, store_priorities={0, 1}), (), True),
        (replace(ROUTINE, requested_procedure_priorities={"stat"}), (), True),
        (replace(ROUTINE, requested_procedure_priorities={"HIGH"}), (), True),
        (ROUTINE, (StatRule(calling_ae_title="CT*"),), True),
        (ROUTINE, (StatRule(calling_ae_title="ER*"),), False),
        (ROUTINE, (StatRule(calling_ae_title="CT*", modality="mr"),), False),
        (ROUTINE, (StatRule(modality="MR"), StatRule(study_description="chest*")), True),
        (replace(ROUTINE, body_parts_examined=()), (StatRule(body_part_examined="HEAD"),), False),
        (replace(ROUTINE, body_parts_examined=()), (StatRule(),), True),
    ],
)
def test_what_goes_first(request_: Request, rules: tuple[StatRule, ...], expected: bool) -> None:
    assert is_stat(request_, rules) is expected
