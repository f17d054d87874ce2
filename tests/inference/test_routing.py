from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from inference.manifest import Manifest, parse_manifest
from inference.routing import refuse_instance, route, study_refusal
from ledger.domain import InstanceFacts
from tests.inference.factories import CR, CT, SECONDARY_CAPTURE, facts, manifest, manifest_data

SC = {"sop_class_uid": SECONDARY_CAPTURE, "photometric_interpretation": "RGB"}

ACCEPTED: dict[str, dict[str, Any]] = {
    "DX chest PA": {},
    "CR": {"modality": "CR", "sop_class_uid": CR},
    "empty body part": {"body_part_examined": ""},
    "THORAX": {"body_part_examined": "THORAX"},
    "lower case and spaces": {"body_part_examined": " chest ", "view_position": "pa"},
    "AP": {"view_position": "AP"},
    "empty view": {"view_position": ""},
    "MONOCHROME1": {"photometric_interpretation": "MONOCHROME1"},
    "unknown transfer syntax": {"transfer_syntax_uid": ""},
    "JPEG 2000": {"transfer_syntax_uid": "1.2.840.10008.1.2.4.90"},
    "one frame, said so": {"number_of_frames": 1},
    "description": {"series_description": "Thorax plate, flat"},
    "smallest": {"rows": 32, "columns": 32},
    "SC of a DX": SC,
    "SC of modality OT": {**SC, "modality": "OT"},
    "derived SC": {**SC, "image_type": ("DERIVED", "SECONDARY")},
}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "CT": ({"modality": "CT", "sop_class_uid": CT}, "MODALITY_NOT_ACCEPTED", "is CT"),
    "no modality": ({"modality": ""}, "MODALITY_NOT_ACCEPTED", "is empty"),
    "OT but not SC": ({"modality": "OT", "sop_class_uid": CT}, "SOP_CLASS_NOT_ACCEPTED", CT),
    "for processing": (
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1.1"},
        "SOP_CLASS_NOT_ACCEPTED",
        "1.1.1.1.1",
    ),
    "no pixels": ({"has_pixel_data": False}, "NO_PIXEL_DATA", "no pixel data"),
    "MPEG": (
        {"transfer_syntax_uid": "1.2.840.10008.1.2.4.100"},
        "TRANSFER_SYNTAX_UNSUPPORTED",
        "4.100",
    ),
    "colour": ({"photometric_interpretation": "RGB"}, "PHOTOMETRIC_NOT_ACCEPTED", "is RGB"),
    "derived": ({"image_type": ("DERIVED", "PRIMARY")}, "DERIVED_IMAGE", "DERIVED"),
    "localizer": ({"image_type": ("ORIGINAL", "x", "Localizer")}, "LOCALIZER_IMAGE", "Localizer"),
    "other type": ({"image_type": ("MIP",)}, "IMAGE_TYPE_NOT_ACCEPTED", "MIP"),
    "frames": ({"number_of_frames": 12}, "TOO_MANY_FRAMES", "12 frames"),
    "knee": ({"body_part_examined": "KNEE"}, "BODY_PART_NOT_ACCEPTED", "CHEST, THORAX, empty"),
    "lateral": ({"view_position": "LATERAL"}, "VIEW_NOT_ACCEPTED", "is LATERAL"),
    "LL": ({"view_position": "LL"}, "VIEW_NOT_ACCEPTED", "is LL"),
    "lateral by description": (
        {"view_position": "", "series_description": "THORAX_LAT"},
        "DESCRIPTION_NOT_ACCEPTED",
        "'lat'",
    ),
    "one pixel": ({"rows": 1, "columns": 1}, "IMAGE_TOO_SMALL", "1 x 1"),
    "few columns": ({"columns": 31}, "IMAGE_TOO_SMALL", "512 x 31"),
    "SC of unknown body part": (
        {**SC, "body_part_examined": ""},
        "BODY_PART_NOT_ACCEPTED",
        "is empty; accepted: CHEST.",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_image_is_accepted(case: str) -> None:
    image = facts(**ACCEPTED[case])
    (decision,) = route([image], [manifest()])
    assert decision.is_accepted
    assert decision.sop_instance_uids == (image.sop_instance_uid,)
    assert refuse_instance(image, manifest()) is None
    assert study_refusal([decision]) is None


@pytest.mark.parametrize("case", REFUSED)
def test_image_is_refused_with_code_and_reason(case: str) -> None:
    changes, code, words = REFUSED[case]
    (decision,) = route([facts(**changes)], [manifest()])
    assert not decision.is_accepted
    assert decision.sop_instance_uids == ()
    assert decision.refusal is not None
    assert decision.refusal.code == code
    assert words in decision.refusal.message
    assert decision.refusal == refuse_instance(facts(**changes), manifest())


def test_secondary_capture_can_be_excluded() -> None:
    accepts = [{"modality": ["DX"], "excluded_image_types": ["SECONDARY"]}]
    refusal = refuse_instance(
        facts(image_type=("ORIGINAL", "SECONDARY")), manifest(accepts=accepts)
    )
    assert refusal is not None
    assert refusal.code == "SECONDARY_IMAGE"


def test_only_fitting_images_of_a_study_are_taken_in_order() -> None:
    study = [
        facts(sop_instance_uid="4", series_number=2, instance_number=1),
        facts(sop_instance_uid="3", series_number=1, instance_number=2),
        facts(sop_instance_uid="lateral", view_position="LL"),
        facts(sop_instance_uid="2", series_number=1, instance_number=1),
        facts(sop_instance_uid="1", series_number=1, instance_number=1),
    ]
    for order in permutations(study):
        (decision,) = route(order, [manifest()])
        assert decision.sop_instance_uids == ("1", "2", "3", "4")
        fits = "modality DX, body part CHEST, view PA"
        assert decision.reason == f"Takes 4 of 5 images: {fits}."


@pytest.mark.parametrize(
    ("study", "code"),
    [
        (["CT", "lateral", "no pixels"], "VIEW_NOT_ACCEPTED"),
        (["one pixel", "lateral", "knee"], "IMAGE_TOO_SMALL"),
        (["CT", "MPEG"], "TRANSFER_SYNTAX_UNSUPPORTED"),
        (["CT", "no modality"], "MODALITY_NOT_ACCEPTED"),
    ],
)
def test_refusal_that_came_furthest_is_reported_whatever_the_order(
    study: list[str], code: str
) -> None:
    images = [
        facts(sop_instance_uid=str(number), **REFUSED[case][0]) for number, case in enumerate(study)
    ]
    messages = set()
    for order in permutations(images):
        (decision,) = route(order, [manifest()])
        assert decision.refusal is not None
        assert decision.refusal.code == code
        messages.add(decision.refusal.message)
    assert len(messages) == 1


def test_every_model_answers_in_its_order() -> None:
    knee = manifest_data()["accepts"][0] | {"body_part_examined": ["KNEE"]}
    models = [manifest(version="1.0.1"), manifest(version="1.0.2", accepts=[knee])]
    decisions = route([facts()], models)
    assert [decision.model.version for decision in decisions] == ["1.0.1", "1.0.2"]
    assert [decision.is_accepted for decision in decisions] == [True, False]
    assert study_refusal(decisions) is None


def test_study_that_no_model_takes_says_why() -> None:
    refusal = study_refusal(route([facts(modality="CT")], [manifest()]))
    assert refusal is not None
    assert refusal.code == "NO_APPLICABLE_MODEL"
    assert "Not analysed because" in refusal.message
    assert "toy: The modality is CT" in refusal.message


def test_study_without_installed_models_says_so() -> None:
    refusal = study_refusal(route([facts()], []))
    assert refusal is not None
    assert refusal.code == "NO_APPLICABLE_MODEL"
    assert "no model is installed" in refusal.message


def test_empty_study_is_refused() -> None:
    (decision,) = route([], [manifest()])
    assert decision.refusal is not None
    assert decision.refusal.code == "NO_IMAGES"


def test_series_description_never_reaches_a_message() -> None:
    image = facts(view_position="", series_description="Lateral Anna Test")
    refusal = refuse_instance(image, manifest())
    assert refusal is not None
    assert "Anna" not in refusal.message


def test_long_header_value_is_cut() -> None:
    refusal = refuse_instance(facts(modality="X" * 500), manifest())
    assert refusal is not None
    assert len(refusal.message) < 100


def test_picture_without_header_needs_a_model_that_says_so() -> None:
    picture = InstanceFacts("", "", "", "", "", rows=500, columns=500, has_pixel_data=True)
    refusal = refuse_instance(picture, manifest())
    assert refusal is not None
    assert refusal.code == "MODALITY_NOT_ACCEPTED"
    accepts = [{"modality": [""], "sop_class": [""]}]
    assert refuse_instance(picture, manifest(accepts=accepts)) is None


def volume_manifest() -> Manifest:
    data = manifest_data()
    data |= {"pipeline": "segmentation", "network": {"name": "wnet", "channels": 2}}
    data["explain"] = None
    data["input"] |= {"unit": "series", "minimum_slices": 3}
    return parse_manifest(data, "toy")


def slices(series: str, count: int, number: int) -> list[InstanceFacts]:
    return [
        facts(
            series_instance_uid=series,
            sop_instance_uid=f"{series}.{index}",
            series_number=number,
            instance_number=index,
        )
        for index in range(count)
    ]


def test_model_of_series_takes_the_longest_one_whatever_the_order() -> None:
    study = [*slices("1.1", 4, 1), *slices("1.2", 6, 2), *slices("1.3", 6, 3)]
    for order in (study, study[::-1]):
        (decision,) = route(order, [volume_manifest()])
        assert decision.sop_instance_uids == tuple(f"1.2.{index}" for index in range(6))


def test_series_of_too_few_slices_is_refused() -> None:
    (decision,) = route(slices("1.1", 2, 1), [volume_manifest()])
    assert decision.refusal is not None
    assert decision.refusal.code == "SERIES_TOO_SHORT"
    assert "has 2 slices; at least 3 are needed" in decision.refusal.message


MR: dict[str, Any] = {
    "image_orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "pixel_spacing_mm": (0.8, 0.8),
    "slice_thickness_mm": 5.0,
}


def stack(series: str, count: int, number: int = 1, **changes: Any) -> list[InstanceFacts]:
    """Return the slices of an even axial series, 5 mm apart."""
    return [
        replace(one, **MR | {"image_position": (0.0, 0.0, 5.0 * index)} | changes)
        for index, one in enumerate(slices(series, count, number))
    ]


def chosen(study: list[InstanceFacts], **changes: Any) -> tuple[str, dict[int, str]]:
    """Return the series taken (or the refusal's code), and the code of each of the others."""
    data = volume_manifest().model_dump(mode="json") | changes
    answers = {tuple(route(order, [parse_manifest(data, "toy")])) for order in (study, study[::-1])}
    assert len(answers) == 1
    ((decision,),) = answers
    codes = {one.series_number: one.refusal.code for one in decision.series if one.refusal}
    if decision.refusal is not None:
        return decision.refusal.code, codes
    return decision.sop_instance_uids[0].rpartition(".")[0], codes


GATES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "plane": ({"plane": ["CORONAL"]}, MR, "PLANE_NOT_ACCEPTED"),
    "no contrast": ({"contrast": "required"}, {}, "CONTRAST_MISSING"),
    "contrast": ({"contrast": "refused"}, {"contrast_agent": "X"}, "CONTRAST_NOT_ACCEPTED"),
    "text": ({}, {"burned_in_annotation": "YES"}, "BURNED_IN_ANNOTATION"),
    "age": ({"age_years": [0, 5]}, {"patient_age_years": 6.1}, "AGE_NOT_ACCEPTED"),
    "sex": ({"patient_sex": ["F"]}, {"patient_sex": "M"}, "SEX_NOT_ACCEPTED"),
    "pixels": ({"pixel_spacing_mm": [0.1, 0.5]}, MR, "PIXEL_SPACING_NOT_ACCEPTED"),
}


@pytest.mark.parametrize("case", GATES)
def test_intended_use_is_kept_and_unknown_values_pass(case: str) -> None:
    accepts, header, code = GATES[case]
    data = manifest_data()
    data["accepts"] = [data["accepts"][0] | accepts]
    refusal = refuse_instance(facts(**header), parse_manifest(data, "toy"))
    assert refusal is not None
    assert refusal.code == code
    if case not in {"plane", "no contrast"}:
        assert refuse_instance(facts(), parse_manifest(data, "toy")) is None


def test_somebody_of_the_greatest_age_is_within_it() -> None:
    data = manifest_data()
    data["accepts"] = [data["accepts"][0] | {"age_years": [0, 5]}]
    assert refuse_instance(facts(patient_age_years=5.9), parse_manifest(data, "toy")) is None


def test_series_that_makes_no_volume_is_left_for_one_that_does() -> None:
    gap = stack("1.1", 9, 1)
    del gap[4]
    tilted = [
        replace(one, image_position=(0.0, float(index), 5.0 * index))
        for index, one in enumerate(stack("1.2", 9, 2))
    ]
    turned = stack("1.3", 9, 3)
    turned[3] = replace(turned[3], image_orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    study = [*gap, *tilted, *turned, *stack("1.4", 5, 4), *slices("1.5", 2, 5)]
    codes = {1: "SLICE_GAP", 2: "GANTRY_TILT", 3: "ORIENTATIONS_DIFFER", 5: "SERIES_TOO_SHORT"}
    assert chosen(study) == ("1.4", codes)
    assert chosen(gap) == ("SLICE_GAP", {1: "SLICE_GAP"})
    accepts = volume_manifest().accepts[0].model_dump(mode="json") | {"slice_spacing_mm": [0.5, 2]}
    assert chosen(stack("1.4", 5), accepts=[accepts])[0] == "SLICE_SPACING_NOT_ACCEPTED"


@pytest.mark.parametrize(
    ("rule", "better"),
    [
        ({"by": "contrast"}, {"contrast_agent": "Gadolinium"}),
        ({"by": "plane", "values": ["CORONAL"]}, {"image_orientation": (1.0, 0, 0, 0, 0, -1.0)}),
        ({"by": "description", "values": ["lge", "de"]}, {"series_description": "LGE 3D"}),
        ({"by": "kernel", "values": ["B30"]}, {"convolution_kernel": "B30f"}),
        ({"by": "slice_thickness", "nearest_mm": 2.0}, {"slice_thickness_mm": 1.25}),
    ],
)
def test_preference_decides_before_the_number_of_slices(
    rule: dict[str, Any], better: dict[str, Any]
) -> None:
    if "image_orientation" in better:
        wanted = [
            replace(one, image_position=(0.0, 5.0 * index, 0.0), **better)
            for index, one in enumerate(stack("1.2", 4, 2))
        ]
    else:
        wanted = stack("1.2", 4, 2, **better)
    study = [*stack("1.1", 8, 1), *wanted, *stack("1.3", 4, 3)]
    others = dict.fromkeys((1, 3), "OTHER_SERIES_PREFERRED")
    assert chosen(study, prefer=[rule]) == ("1.2", others)
    assert chosen(study)[0] == "1.1"


@pytest.mark.parametrize("name", ["temporal_position", "acquisition_number", "echo_number"])
def test_volumes_on_top_of_each_other_are_told_apart(name: str) -> None:
    study = [
        replace(one, sop_instance_uid=f"1.{phase}.{one.sop_instance_uid}")
        for phase in (10, 2)
        for one in stack("1.1", 4, 1, **{name: phase})
    ]
    (decision,) = route(study, [volume_manifest()])
    assert decision.sop_instance_uids == tuple(f"1.2.1.1.{index}" for index in range(4))
    assert [one.refusal is None for one in decision.series] == [False, True]
    assert chosen([*stack("1.1", 4), *stack("1.1", 4)])[0] == "SLICE_POSITION_DOUBLED"


def test_multi_frame_object_is_a_series_of_its_frames() -> None:
    enhanced = facts(series_instance_uid="1.1", sop_instance_uid="1.1.0", number_of_frames=12)
    assert chosen([enhanced, *stack("1.2", 8, 2)])[0] == "1.1"
