"""Whether a model is meant for an image, by what its header says. Pure.

An image is held against each alternative of ``accepts``. The checks have a fixed order, from "quite
another thing" to "nearly right"; the one that came furthest says what would have to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from inference.manifest import Accepts, Manifest
from inference.stack import plane_name
from inference.transfer_syntaxes import DECODABLE
from ledger.domain import InstanceFacts, Refusal

Judged = tuple[InstanceFacts, int, Refusal | None]
"""An image, how far it came, and what stopped it."""

_SHOWN_CHARACTERS = 32

_IMAGE_TYPE_CODES = {
    "DERIVED": "DERIVED_IMAGE",
    "SECONDARY": "SECONDARY_IMAGE",
    "LOCALIZER": "LOCALIZER_IMAGE",
}


def furthest(judged: Sequence[Judged]) -> Refusal:
    """Return the refusal of the image that came furthest; of equals the first one's."""
    refusals = [(stage, refusal) for _, stage, refusal in judged if refusal is not None]
    return max(refusals, key=lambda pair: pair[0])[1]


def describe_taken(taken: Sequence[InstanceFacts], of: int) -> str:
    """Return in words what fits a model, out of a study of so many images."""
    kinds = dict.fromkeys(
        f"modality {_known(facts.modality)}, body part {_known(facts.body_part_examined)}, "
        f"view {_known(facts.view_position)}"
        for facts in taken
    )
    return f"Takes {len(taken)} of {of} images: {'; '.join(kinds)}."


def judge_image(facts: InstanceFacts, manifest: Manifest) -> tuple[int, Refusal | None]:
    """Return how far an image comes with a model, and what stops it there."""
    if manifest.input.unit == "series":  # frames are slices then
        facts = replace(facts, number_of_frames=1)
    return max(
        (_first_refusal(facts, accepts) for accepts in manifest.accepts), key=lambda pair: pair[0]
    )


def accepting(facts: InstanceFacts, manifest: Manifest) -> Accepts | None:
    """Return the first alternative that an image satisfies."""
    return next((one for one in manifest.accepts if _first_refusal(facts, one)[1] is None), None)


def _first_refusal(facts: InstanceFacts, accepts: Accepts) -> tuple[int, Refusal | None]:
    for stage, check in enumerate(_CHECKS):
        refusal = check(facts, accepts)
        if refusal is not None:
            return stage, refusal
    return len(_CHECKS), None


def _modality(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    return _listed("MODALITY_NOT_ACCEPTED", "modality", facts.modality, accepts.modality)


def _sop_class(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    return _listed("SOP_CLASS_NOT_ACCEPTED", "SOP class", facts.sop_class_uid, accepts.sop_class)


def _pixel_data(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if facts.has_pixel_data:
        return None
    return Refusal("NO_PIXEL_DATA", "The object holds no pixel data.")


def _transfer_syntax(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    syntax = facts.transfer_syntax_uid
    if not syntax or syntax in DECODABLE:
        return None
    return Refusal(
        "TRANSFER_SYNTAX_UNSUPPORTED",
        f"Transfer syntax {syntax} can't be decoded; send the image uncompressed.",
    )


def _photometric(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    return _listed(
        "PHOTOMETRIC_NOT_ACCEPTED",
        "photometric interpretation",
        facts.photometric_interpretation,
        accepts.photometric_interpretation,
    )


def _image_type(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    for value in facts.image_type:
        if _folded(value) in accepts.excluded_image_types:
            code = _IMAGE_TYPE_CODES.get(_folded(value), "IMAGE_TYPE_NOT_ACCEPTED")
            return Refusal(code, f"Image type {_shown(value)} is not accepted.")
    return None


def _frames(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if facts.number_of_frames <= accepts.maximum_frames:
        return None
    return Refusal(
        "TOO_MANY_FRAMES",
        f"The object has {facts.number_of_frames} frames; "
        f"at most {accepts.maximum_frames} can be analysed.",
    )


def _body_part(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    return _listed(
        "BODY_PART_NOT_ACCEPTED", "body part", facts.body_part_examined, accepts.body_part_examined
    )


def _view(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    return _listed("VIEW_NOT_ACCEPTED", "view", facts.view_position, accepts.view_position)


def _description(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    words = set(re.split(r"[\W_]+", facts.series_description.casefold()))
    for word in accepts.excluded_description_words:
        if word.casefold() in words:
            return Refusal(
                "DESCRIPTION_NOT_ACCEPTED", f"The series description has the word {word!r}."
            )
    return None


def _size(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if facts.rows >= accepts.minimum_rows and facts.columns >= accepts.minimum_columns:
        return None
    return Refusal(
        "IMAGE_TOO_SMALL",
        f"The image has {facts.rows} x {facts.columns} pixels; at least "
        f"{accepts.minimum_rows} x {accepts.minimum_columns} (rows x columns) are needed.",
    )


def _plane(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    plane = plane_name(facts.image_orientation)
    return _listed("PLANE_NOT_ACCEPTED", "plane of the image", plane, accepts.plane)


def _contrast(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if accepts.contrast == "required" and not facts.contrast_agent:
        return Refusal("CONTRAST_MISSING", "The image was made without a contrast agent.")
    if accepts.contrast == "refused" and facts.contrast_agent:
        return Refusal("CONTRAST_NOT_ACCEPTED", "The image was made with a contrast agent.")
    return None


def _burned_in(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if accepts.accepts_burned_in_annotation or _folded(facts.burned_in_annotation) != "YES":
        return None
    return Refusal("BURNED_IN_ANNOTATION", "The image has text burned into its pixels.")


def _age(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if facts.patient_age_years is None or accepts.age_years is None:
        return None
    least, greatest = accepts.age_years
    if least <= facts.patient_age_years < greatest + 1.0:  # somebody of 5 years may be nearly 6
        return None
    return Refusal(
        "AGE_NOT_ACCEPTED",
        f"The patient's age is outside the intended use, {least:g} to {greatest:g} years.",
    )


def _sex(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if accepts.patient_sex and not facts.patient_sex.strip():
        return None
    return _listed("SEX_NOT_ACCEPTED", "patient's sex", facts.patient_sex, accepts.patient_sex)


def _pixel_spacing(facts: InstanceFacts, accepts: Accepts) -> Refusal | None:
    if accepts.pixel_spacing_mm is None or not facts.pixel_spacing_mm:
        return None
    least, greatest = accepts.pixel_spacing_mm
    if all(least <= value <= greatest for value in facts.pixel_spacing_mm):
        return None
    found = " x ".join(f"{value:g}" for value in facts.pixel_spacing_mm)
    return Refusal(
        "PIXEL_SPACING_NOT_ACCEPTED",
        f"The pixels have {found} mm; {least:g} to {greatest:g} mm are accepted.",
    )


_CHECKS: tuple[Callable[[InstanceFacts, Accepts], Refusal | None], ...] = (
    _modality,
    _sop_class,
    _pixel_data,
    _transfer_syntax,
    _frames,
    _image_type,
    _photometric,
    _body_part,
    _view,
    _description,
    _plane,
    _contrast,
    _burned_in,
    _age,
    _sex,
    _size,
    _pixel_spacing,
)


def _listed(code: str, name: str, value: str, accepted: Sequence[str]) -> Refusal | None:
    if not accepted or _folded(value) in accepted:
        return None
    known = ", ".join(one or "empty" for one in accepted)
    found = f"is {_shown(value)}" if value.strip() else "is empty"
    return Refusal(code, f"The {name} {found}; accepted: {known}.")


def _folded(value: str) -> str:
    """Spaces and case as in a CS value, whatever the sender wrote (PS3.5 section 6.2)."""
    return value.strip().upper()


def _known(value: str) -> str:
    return _shown(value) or "not stated"


def _shown(value: str) -> str:
    return value.strip()[:_SHOWN_CHARACTERS]
