"""Which images of a series a volume leaves out."""

from __future__ import annotations

from ledger.domain import InstanceFacts
from ledger.slices import images_left_out


def image(
    number: int, series: str = "1.1", frames: int = 0, *, pixels: bool = True
) -> InstanceFacts:
    return InstanceFacts(
        study_instance_uid="1", series_instance_uid=series, sop_instance_uid=f"{series}.{number}",
        sop_class_uid="", transfer_syntax_uid="", number_of_frames=frames, has_pixel_data=pixels,
    )  # fmt: skip


def test_images_of_the_same_series_count_and_frames_one_by_one() -> None:
    phases = [image(number) for number in range(6)]
    others = [image(9, "1.2"), image(7, pixels=False)]
    uids = [one.sop_instance_uid for one in phases]
    assert images_left_out([*phases, *others], uids[:3]) == 3
    assert images_left_out([*phases, *others], uids) == 0
    cine = image(1, "1.3", frames=20)
    assert images_left_out([cine, *phases], [cine.sop_instance_uid] * 10) == 10
    assert images_left_out([image(1, "1.3", frames=4)], [cine.sop_instance_uid] * 10) == 0
