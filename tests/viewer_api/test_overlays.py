"""Which image of the viewer a slice of a mask belongs to."""

from __future__ import annotations

from viewer_api.study_view import places_of, sort_like_volumes


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
