"""Which images the viewer shows, in which order, and which a slice of a mask belongs to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from ledger.domain import InstanceFacts
from ledger.facts import read_facts
from viewer_api.errors import PageNotFoundError
from viewer_api.pixels import read_pixels
from viewer_api.viewer_data import in_place, places_of, sort_like_volumes


def test_slices_of_one_object_are_its_frames() -> None:
    summary = {"sop_instance_uids": ["1.2", "1.2", "1.2"], "frame_numbers": [3, 2, 1]}
    places = places_of(summary)
    assert places == [("1.2", 3), ("1.2", 2), ("1.2", 1)]
    images = [{"uid": "1.2", "frame": number} for number in (1, 2, 3)]
    sort_like_volumes({7: {"images": images}}, [{"places": places}])
    assert [image["frame"] for image in images] == [3, 2, 1], "the mask's slices lie so"


def test_without_known_frames_nothing_is_shown_rather_than_the_wrong_place() -> None:
    assert places_of({"sop_instance_uids": ["1.2", "1.2"]}) == []
    assert places_of({"sop_instance_uids": ["1.2", "1.3"]}) == [("1.2", 1), ("1.3", 1)]
    assert places_of({"sop_instance_uids": ["1.2"], "frame_numbers": []}) == [("1.2", 1)]


def image(number: int, z: float, uid: int, **more: Any) -> tuple[InstanceFacts, int]:
    facts = InstanceFacts(
        study_instance_uid="1", series_instance_uid="1.1", sop_instance_uid=f"1.1.{uid}",
        sop_class_uid="", transfer_syntax_uid="", instance_number=number,
        image_position=(0.0, 0.0, z), image_orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), **more,
    )  # fmt: skip
    return facts, uid


def test_slices_are_numbered_as_results_number_them() -> None:
    downwards = [image(number, -5.0 * number, number) for number in (1, 2, 3)]
    assert [uid for _, uid in in_place(downwards)] == [3, 2, 1], "along the normal: to the head"
    nearly = replace(downwards[0][0], image_orientation=(0.99994, 0.00006, 0.0, 0.0, 1.0, 0.0)), 1
    assert [uid for _, uid in in_place([nearly, *downwards[1:]])] == [3, 2, 1], "parallel"
    phases = [image(number, 5.0 * (number % 2), number) for number in (4, 1, 3, 2)]
    assert [uid for _, uid in in_place(phases)] == [1, 2, 3, 4], "several in one place"
    localizer = image(4, 0.0, 4)
    tilted = replace(localizer[0], image_orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0)), 4
    assert [uid for _, uid in in_place([tilted, *downwards])] == [1, 2, 3, 4]


def test_every_frame_of_a_loop_in_colour_can_be_seen() -> None:
    path = Path(str(get_testdata_file("SC_rgb_rle_16bit_2frame.dcm", download=False)))
    facts, _ = read_facts(dcmread(path, stop_before_pixels=True))
    seen = set()
    for frame in (1, 2):
        with path.open("rb") as file:
            pixels = read_pixels(file, facts, frame)
        assert pixels.about == {"kind": "rgb", "rows": facts.rows, "columns": facts.columns}
        seen.add(pixels.data)
    assert len(seen) == 2
    with path.open("rb") as file, pytest.raises(PageNotFoundError):
        read_pixels(file, facts, 3)
