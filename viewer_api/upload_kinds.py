"""What an upload's pictures and volumes are taken for: they say nothing of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from inference.manifest import Accepts
from inference.quality import check_picture
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from ledger.web_tables import UploadFile
from viewer_api.decoding import DecodingBudget, needed_bytes
from viewer_api.errors import KindNeededError, UploadError
from viewer_api.upload_files import file_of

PICTURE = "OT"
"""Modality of a picture that says nothing of itself: other (PS3.3 C.7.3.1.1.1)."""


def kinds_of(
    registry: Registry,
    rows: Sequence[UploadFile],
    folder: Path,
    model_id: str | None,
    decoding: DecodingBudget,
) -> dict[int, Accepts | UploadError | None]:
    """Return what each picture and volume is taken for, or why it can't be: DICOM says it.

    Parameters
    ----------
    model_id
        The only model to ask; None asks all that fit.
    decoding
        Of which pictures take what they need.
    """
    kinds: dict[int, Accepts | UploadError | None] = {}
    for row in rows:
        try:
            kinds[row.id] = _kind(registry, row, folder, model_id, decoding)
        except UploadError as error:
            kinds[row.id] = error
    return kinds


def refuse_if_nothing_is_left(kinds: dict[int, Accepts | UploadError | None]) -> None:
    """Raise the first error if there is nothing else: another model may be chosen then."""
    errors = [kind for kind in kinds.values() if isinstance(kind, UploadError)]
    if len(errors) == len(kinds):
        raise errors[0]


def _kind(
    registry: Registry,
    row: UploadFile,
    folder: Path,
    model_id: str | None,
    decoding: DecodingBudget,
) -> Accepts | None:
    package = registry.get(model_id) if model_id else None
    if row.kind == "dicom":
        return None
    if row.kind == "picture":
        if package:
            return picture_kind(package)
        path = file_of(folder, row.id)
        with decoding.hold(needed_bytes(path, row.kind)):
            return recognise(registry, read_image(path))
    if package is None or package.manifest.input.unit != "series":
        raise KindNeededError("A volume doesn't tell what it shows; choose a model for volumes.")
    return package.manifest.accepts[0]


def picture_kind(package: ModelPackage) -> Accepts:
    """Return the alternative of a model that takes pictures without a header.

    Raises
    ------
    KindNeededError
        The model takes series only.
    """
    manifest = package.manifest
    if manifest.input.unit != "image":
        raise KindNeededError(f"{manifest.name!r} needs a series or a volume, not a picture.")
    for accepts in manifest.accepts:
        if PICTURE in accepts.modality:
            return accepts.model_copy(update={"modality": (PICTURE,)})
    return manifest.accepts[0]


def recognise(registry: Registry, image: SourceImage) -> Accepts:
    """Return what a picture shows, as most of the models say whose gates let it through.

    Raises
    ------
    KindNeededError
        None does.
    """
    votes: Counter[str] = Counter()
    kinds: dict[str, Accepts] = {}
    for package in registry.models:
        manifest = package.manifest
        if manifest.input.unit != "image" or manifest.gate is None:
            continue
        if check_picture(image, package) is None:
            accepts = picture_kind(package)
            part = next((one for one in accepts.body_part_examined if one), "")
            votes[part] += 1
            kinds.setdefault(part, accepts)
    if not votes:
        raise KindNeededError(
            "No model knows this kind of picture. If one should, choose it: then it says why not."
        )
    return kinds[votes.most_common(1)[0][0]]
