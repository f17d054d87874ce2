"""Which model takes which images of a study, and why the others don't. Pure.

For every model each image is held against each alternative of ``accepts``. The checks have a fixed
order, from "quite another thing" to "nearly right"; of all refusals the one that came furthest
is reported, because it says what would have to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from inference.manifest import Accepts, Manifest
from inference.transfer_syntaxes import DECODABLE
from ledger.domain import InstanceFacts, Refusal, RoutingDecision

NO_APPLICABLE_MODEL = "NO_APPLICABLE_MODEL"
_SHOWN_CHARACTERS = 32

_IMAGE_TYPE_CODES = {
    "DERIVED": "DERIVED_IMAGE",
    "SECONDARY": "SECONDARY_IMAGE",
    "LOCALIZER": "LOCALIZER_IMAGE",
}


def route(
    instances: Sequence[InstanceFacts], manifests: Sequence[Manifest]
) -> list[RoutingDecision]:
    """Decide for each model, in the given order, which images it takes.

    Parameters
    ----------
    instances
        The study; the order doesn't matter.
    manifests
        The installed models.

    Returns
    -------
    list[RoutingDecision]
        One for each model: SOP Instances by series, instance number and UID, or a refusal.
    """
    ordered = sorted(
        instances, key=lambda one: (one.series_number, one.instance_number, one.sop_instance_uid)
    )
    return [_decide(ordered, manifest) for manifest in manifests]


def refuse_instance(facts: InstanceFacts, manifest: Manifest) -> Refusal | None:
    """Return why a model doesn't take an image, or None if it does."""
    return _judge(facts, manifest)[1]


def study_refusal(decisions: Sequence[RoutingDecision]) -> Refusal | None:
    """Return why a study is not analysed at all, or None if a model applies."""
    if any(decision.is_accepted for decision in decisions):
        return None
    if not decisions:
        return Refusal(NO_APPLICABLE_MODEL, "Not analysed because no model is installed.")
    reasons = " ".join(
        f"{decision.model.model_id}: {decision.refusal.message}"
        for decision in decisions
        if decision.refusal is not None
    )
    return Refusal(NO_APPLICABLE_MODEL, f"Not analysed because no model applies. {reasons}")


def _decide(ordered: Sequence[InstanceFacts], manifest: Manifest) -> RoutingDecision:
    judged = [(facts, *_judge(facts, manifest)) for facts in ordered]
    taken = [facts for facts, _, refusal in judged if refusal is None]
    if taken and manifest.input.unit == "series":
        return _choose_series(taken, manifest)
    if taken:
        return RoutingDecision(manifest.identity, tuple(one.sop_instance_uid for one in taken))
    refusals = [(stage, refusal) for _, stage, refusal in judged if refusal is not None]
    if not refusals:
        return RoutingDecision(manifest.identity, (), Refusal("NO_IMAGES", "The study is empty."))
    # max() keeps the first of equals, and the order of the images is fixed
    _, furthest = max(refusals, key=lambda pair: pair[0])
    return RoutingDecision(manifest.identity, (), furthest)


def _choose_series(taken: Sequence[InstanceFacts], manifest: Manifest) -> RoutingDecision:
    """Take the series with most slices; of equals the one that comes first."""
    series: dict[str, list[str]] = {}
    for facts in taken:
        series.setdefault(facts.series_instance_uid, []).append(facts.sop_instance_uid)
    uids = max(series.values(), key=len)
    if len(uids) >= manifest.input.minimum_slices:
        return RoutingDecision(manifest.identity, tuple(uids))
    refusal = Refusal(
        "SERIES_TOO_SHORT",
        f"The longest series has {len(uids)} slices; at least "
        f"{manifest.input.minimum_slices} are needed.",
    )
    return RoutingDecision(manifest.identity, (), refusal)


def _judge(facts: InstanceFacts, manifest: Manifest) -> tuple[int, Refusal | None]:
    """Return how far an image comes with a model, and what stops it there."""
    return max(
        (_first_refusal(facts, accepts) for accepts in manifest.accepts), key=lambda pair: pair[0]
    )


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
    _size,
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


def _shown(value: str) -> str:
    return value.strip()[:_SHOWN_CHARACTERS]
