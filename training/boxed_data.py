"""Pictures with boxes: the column ``boxes`` of ``labels.csv``, checked.

A box is ``x_min,y_min,x_max,y_max`` in pixels of the picture, edges of pixels, x to the right and y
down; several are separated by spaces. A row with neither label nor boxes says that there is nothing
to find.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.boxes import Boxes, to_canvas
from inference.manifest import InputSpec
from inference.preprocessing import to_canvas as picture_to_canvas
from training.data import LABELS_NAME, Sample, data_digest, load_samples, with_added
from training.errors import BoxesError, LabelsError
from training.progress import Progress
from training.recipe import AlsoSpec, DataSpec

ROUNDING_PX = 1.0
"""Boxes may reach over the picture's edge by so much; they are cut there."""


@dataclass(frozen=True, slots=True)
class BoxedSample:
    """A labelled picture and its boxes, [M, 4] in pixels of the picture."""

    sample: Sample
    boxes: Boxes
    weight: float = 1.0
    """How often it is learnt from, against others."""


@dataclass(frozen=True, slots=True)
class BoxedCanvas:
    """A picture as a canvas, [H, W] or [H, W, 3] in [0, 1], and its boxes in canvas pixels."""

    canvas: np.ndarray[tuple[int, ...], np.dtype[np.float16]]
    boxes: Boxes
    channel: int
    """Logit of the class of its boxes; of a picture with nothing to find one that isn't there."""


def load_boxed(folder: Path, spec: DataSpec, seed: int) -> tuple[BoxedSample, ...]:
    """Read and check ``labels.csv`` with its boxes; see :func:`training.data.load_samples`.

    Raises
    ------
    DataError
        One of its kinds; the sentence names the row's line or the class.
    """
    samples = load_samples(folder, _with_nothing(spec), seed)
    with (folder / LABELS_NAME).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if "boxes" not in rows[0]:
        raise LabelsError(
            f"{folder / LABELS_NAME} has no column 'boxes'; models that give boxes learn from it."
        )
    return tuple(
        _boxed(sample, row["boxes"] or "", f"{LABELS_NAME} line {line}", spec)
        for line, (row, sample) in enumerate(zip(rows, samples, strict=True), start=2)
    )


def added_boxed(
    samples: Iterable[BoxedSample], folder: Path, spec: DataSpec
) -> tuple[BoxedSample, ...]:
    """Return the training pictures of the folders in ``data.also`` that can be learnt from.

    Those are the pictures that the recipe has boxes for (``also.boxes``), and those with nothing to
    find.

    Raises
    ------
    DataError
        One of its kinds.
    """
    own = tuple(item.sample for item in samples)
    added: list[BoxedSample] = []
    for also in spec.also:
        only = _with_nothing(spec).model_copy(update={"also": (also,)})
        found = with_added(own, folder, only)[len(own) :]
        _check_names(also, found)
        for sample in found:
            text = also.boxes.get(_name_in(also, sample), "")
            if text or sample.label == len(spec.classes):
                added.append(_boxed(sample, text, f"data.also {sample.file}", spec, also.weight))
    return tuple(added)


def without_objects(folder: Path, spec: DataSpec, seed: int) -> tuple[BoxedSample, ...]:
    """Return the validation pictures of the folders in ``data.also`` that show nothing.

    Raises
    ------
    DataError
        One of its kinds.
    """
    found: list[BoxedSample] = []
    for also in spec.also:
        nothing = [number for number, name in enumerate(also.labels.values()) if not name]
        theirs = spec.model_copy(update={"classes": tuple(also.labels), "also": ()})
        if nothing:
            found += [
                BoxedSample(replace(sample, label=len(spec.classes)), np.empty((0, 4)))
                for sample in load_samples(folder / also.folder, theirs, seed)
                if sample.split == "val" and sample.label in nothing
            ]
    return tuple(found)


def boxed_digest(items: Iterable[BoxedSample]) -> str:
    """Return a sha256 over pictures, labels, splits and boxes."""
    listed = sorted(items, key=lambda item: item.sample.file)
    digest = hashlib.sha256(data_digest(item.sample for item in listed).encode())
    for item in listed:
        digest.update(item.boxes.round(2).tobytes())
    return digest.hexdigest()


def load_boxed_canvases(
    items: Sequence[BoxedSample], spec: InputSpec, progress: Progress
) -> tuple[BoxedCanvas, ...]:
    """Read pictures through serving's own reader and preprocessing, boxes along with them.

    Raises
    ------
    PictureError
        A picture can't be read; the sentence names it.
    BoxesError
        A box lies outside its picture.
    """
    canvases = []
    with progress.stage("Reading pictures", len(items)) as advance:
        for item in items:
            image = item.sample.read()
            boxes = inside(item, image.rows, image.columns)
            canvas = picture_to_canvas(image.array, spec).astype(np.float16)
            moved = to_canvas(boxes, image.rows, image.columns, spec)
            canvases.append(BoxedCanvas(canvas, moved, item.sample.label))
            advance()
    return tuple(canvases)


def inside(item: BoxedSample, rows: int, columns: int) -> Boxes:
    """Return the boxes cut at the edges of their picture.

    Raises
    ------
    BoxesError
        A box reaches further over an edge than rounding explains.
    """
    limit = np.array([columns, rows] * 2, np.float64)
    outside = (item.boxes < -ROUNDING_PX) | (item.boxes > limit + ROUNDING_PX)
    if outside.any():
        box = ",".join(f"{value:g}" for value in item.boxes[outside.any(axis=1)][0])
        raise BoxesError(
            f"{item.sample.file}: box {box} lies outside the picture, which has {columns} columns "
            f"and {rows} rows."
        )
    return np.clip(item.boxes, 0.0, limit)


def _with_nothing(spec: DataSpec) -> DataSpec:
    """Return `spec` with one more class, the empty label: nothing to find."""
    return spec.model_copy(update={"classes": (*spec.classes, "")})


def _boxed(
    sample: Sample, text: str, where: str, spec: DataSpec, weight: float = 1.0
) -> BoxedSample:
    boxes = [_box(part, where) for part in text.split()]
    if sample.label == len(spec.classes):
        if boxes:
            raise BoxesError(f"{where}: the row has boxes, but its label says nothing is there.")
    elif not boxes:
        label = spec.classes[sample.label]
        raise BoxesError(f"{where}: a picture of class {label!r} needs at least one box.")
    return BoxedSample(sample, np.array(boxes, np.float64).reshape(-1, 4), weight)


def _box(text: str, where: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(math.isfinite(value) for value in values):
        raise BoxesError(
            f"{where}: box {text!r} is not four numbers, x_min,y_min,x_max,y_max; "
            "boxes are separated by spaces."
        )
    x_min, y_min, x_max, y_max = values
    if x_min >= x_max or y_min >= y_max:
        raise BoxesError(
            f"{where}: box {text!r} ends before it begins; it is x_min,y_min,x_max,y_max."
        )
    return values


def _name_in(also: AlsoSpec, sample: Sample) -> str:
    return sample.file.removeprefix(f"{also.folder}/")


def _check_names(also: AlsoSpec, found: Sequence[Sample]) -> None:
    """Refuse boxes of pictures that the folder doesn't have, or not for training."""
    known: Mapping[str, Sample] = {_name_in(also, sample): sample for sample in found}
    for name in also.boxes:
        if name not in known:
            raise BoxesError(
                f"The recipe's data.also has boxes for {name!r}, which is not a training picture "
                f"of {also.folder}."
            )
