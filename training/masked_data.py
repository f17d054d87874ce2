"""Pictures and volumes with masks: the columns ``mask`` and ``fov`` of ``labels.csv``, checked.

A mask is a PNG of its picture's size, or a NIfTI file of its volume's. Its values name structures:
0 is background, 1 the recipe's first class, and so on; with one class every other value than 0 is
that class. ``fov``, where there is such a column, marks what is to be judged (field of view).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.errors import ImageError
from inference.manifest import InputSpec
from inference.nifti import read_nifti
from inference.preprocessing import place, resize_plane, to_canvas
from inference.source_image import SourceImage
from inference.volume import Volume, to_canonical
from inference.volume_input import network_values, on_network_grid, seen_slices
from training.data import LABELS_NAME, SPLITS, Sample, check_groups, split_samples
from training.errors import (
    LabelsError,
    MaskError,
    OneClassError,
    PictureError,
    PictureMissingError,
    SplitError,
    UnknownClassError,
)
from training.progress import Progress
from training.recipe import DataSpec, Recipe

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class MaskedSample:
    """A picture or volume with the file of its mask."""

    sample: Sample
    mask_path: Path
    fov_path: Path | None
    where: str
    """Its line, for error messages."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is right about one sample, on the grid of the source.

    Attributes
    ----------
    mask
        uint8 [rows, columns] or [slices, rows, columns]: 0, or the number of a class from 1.
    fov
        bool of the same shape: what is judged; None: everything.
    """

    mask: Mask
    fov: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class MaskedCanvas:
    """What the network learns from: values in [0, 1] and the mask on its grid.

    Attributes
    ----------
    values
        float16 [H, W], [H, W, 3] or [D, H, W].
    mask
        uint8 [H, W] or [D, H, W].
    fov
        bool like `mask`: what is judged; None: everything.
    """

    values: NDArray[np.float16]
    mask: Mask
    fov: NDArray[np.bool_] | None


def load_masked(folder: Path, spec: DataSpec, seed: int) -> tuple[MaskedSample, ...]:
    """Read and check ``labels.csv``; a folder without validation samples is split.

    Raises
    ------
    DataError
        One of its kinds; the sentence names the row's line.
    """
    rows = _read_rows(folder / LABELS_NAME)
    found = tuple(_sample(folder, row, line) for line, row in enumerate(rows, start=2))
    plain = tuple(item.sample for item in found)
    split = split_samples(plain, spec, seed, has_splits="split" in rows[0])
    check_groups(split)
    return tuple(
        MaskedSample(sample, item.mask_path, item.fov_path, item.where)
        for sample, item in zip(split, found, strict=True)
    )


def of_split(items: Iterable[MaskedSample], split: str) -> tuple[MaskedSample, ...]:
    """Return the samples of one split.

    Raises
    ------
    SplitError
        It is empty.
    """
    chosen = tuple(item for item in items if item.sample.split == split)
    if not chosen:
        raise SplitError(f"{LABELS_NAME} has no samples of split {split!r}.")
    return chosen


def masked_digest(items: Iterable[MaskedSample]) -> str:
    """Return a sha256 over samples, masks, fields of view and splits, in order of files."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.sample.file):
        digest.update(f"{item.sample.file}\t{item.sample.split}".encode())
        paths = (item.sample.path, item.mask_path, item.fov_path)
        for path in paths:
            content = path.read_bytes() if path is not None else b""
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def read_masked(item: MaskedSample, recipe: Recipe) -> tuple[SourceImage | Volume, Truth]:
    """Read a picture or volume as serving does, and its mask.

    Raises
    ------
    PictureError
        One of the files can't be read, or the volume has values that are no numbers.
    MaskError
        The mask has another size, or lies elsewhere.
    UnknownClassError
        The mask has a value that is no class.
    """
    classes = recipe.data.classes
    if recipe.input.unit == "series":
        volume = _nifti(Path(str(item.sample.path)), item.sample.file, item.where)
        mask = _nifti(item.mask_path, item.mask_path.name, item.where)
        _check_sides(mask.array.shape, volume.array.shape, item)
        if not np.allclose(mask.affine, volume.affine, atol=1e-2):
            raise MaskError(
                f"{item.where}: mask {item.mask_path.name} lies elsewhere than its volume "
                "(their affines differ)."
            )
        return volume, Truth(_numbers(mask.array, classes, item), None)
    image = item.sample.read()
    sides = (image.rows, image.columns)
    plane = _picture(item.mask_path, item)
    _check_sides(plane.shape, sides, item)
    fov = None
    if item.fov_path is not None:
        fov = _picture(item.fov_path, item) != 0
        _check_sides(fov.shape, sides, item)
        if not fov.any():
            raise MaskError(f"{item.where}: the field of view is empty; nothing could be judged.")
    return image, Truth(_numbers(plane, classes, item), fov)


def load_masked_canvases(
    items: Sequence[MaskedSample], recipe: Recipe, progress: Progress
) -> list[MaskedCanvas]:
    """Read samples and masks, checked, on the network's grid.

    Raises
    ------
    DataError
        One of its kinds. OneClassError: no mask shows one of the classes.
    """
    canvases: list[MaskedCanvas] = []
    seen: set[int] = set()
    with progress.stage("Reading masks", len(items)) as advance:
        for item in items:
            source, truth = read_masked(item, recipe)
            seen |= set(np.unique(truth.mask).tolist())
            canvases.append(on_canvas(source, truth, recipe.input))
            advance()
    for number, name in enumerate(recipe.data.classes, start=1):
        if number not in seen:
            raise OneClassError(
                f"No mask of split {items[0].sample.split!r} shows {name!r} (value {number}); "
                "every class is needed there."
            )
    return canvases


def on_canvas(source: SourceImage | Volume, truth: Truth, spec: InputSpec) -> MaskedCanvas:
    """Bring a sample and its mask to the network's grid."""
    if isinstance(source, Volume):
        labels = Volume(truth.mask.astype(np.float32), source.affine)
        if len(spec.shape) == 4:
            source, labels = to_canonical(source)[0], to_canonical(labels)[0]
        values = network_values(source, spec)
        mask = on_network_grid(labels.array.astype(np.uint8), values.shape)
        return MaskedCanvas(values.astype(np.float16), mask, None)
    position = place(source.rows, source.columns, spec)
    size = (position.width, position.height)
    inner = (
        slice(position.top, position.top + size[1]),
        slice(position.left, position.left + size[0]),
    )
    mask = np.zeros(spec.plane, np.uint8)
    best = np.full((size[1], size[0]), 0.5, np.float32)
    for number in range(1, int(truth.mask.max()) + 1):
        covered = resize_plane((truth.mask == number).astype(np.float32), size)
        mask[inner][covered >= best] = number
        best = np.maximum(best, covered)
    fov = None
    if truth.fov is not None:
        fov = np.zeros(spec.plane, np.bool_)
        fov[inner] = resize_plane(truth.fov.astype(np.float32), size) >= 0.5
    return MaskedCanvas(to_canvas(source.array, spec).astype(np.float16), mask, fov)


def slices_of(canvas: MaskedCanvas, spec: InputSpec) -> list[MaskedCanvas]:
    """Return each slice of a volume as a picture; neighbours that it is seen with are colours."""
    pairs = zip(seen_slices(canvas.values, spec), canvas.mask, strict=True)
    return [
        MaskedCanvas(np.moveaxis(seen, 0, -1) if spec.neighbours else seen, mask, None)
        for seen, mask in pairs
    ]


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise LabelsError(
            f"{path} can't be read ({error.strerror}); the data folder needs it."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} is not a CSV file in UTF-8.") from error
    if not rows:
        raise LabelsError(f"{path} has no rows.")
    for column in ("file", "mask"):
        if column not in rows[0]:
            raise LabelsError(f"{path} has no column {column!r}; it needs at least file and mask.")
    return rows


def _sample(folder: Path, row: Mapping[str, str | None], line: int) -> MaskedSample:
    where = f"{LABELS_NAME} line {line}"
    split = row.get("split", "train") or ""
    if split not in SPLITS:
        raise SplitError(f"{where}: split {split!r} is not train, val or test.")
    file = row["file"] or ""
    sample = Sample(
        file=file,
        path=_there(folder, file, where, "file"),
        label=0,
        split=split,
        group=row.get("group") or file,
        source=row.get("source") or "",
    )
    fov = row.get("fov") or ""
    return MaskedSample(
        sample,
        _there(folder, row["mask"] or "", where, "mask"),
        _there(folder, fov, where, "fov") if fov else None,
        where,
    )


def _there(folder: Path, name: str, where: str, kind: str) -> Path:
    path = folder / name
    if not name or not path.is_file():
        raise PictureMissingError(f"{where}: there is no {kind} {name!r}.")
    return path


def _nifti(path: Path, name: str, where: str) -> Volume:
    try:
        volume = read_nifti(path)
    except ImageError as error:
        raise PictureError(f"{where}: {name} can't be used: {error}") from error
    if volume.volumes > 1:
        raise PictureError(
            f"{where}: {name} holds {volume.volumes} volumes; write each as a file of three axes."
        )
    return volume


def _picture(path: Path, item: MaskedSample) -> Mask:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture if picture.mode in "LP" else picture.convert("L"), np.uint8)
    except (OSError, ValueError) as error:
        raise PictureError(f"{item.where}: {path.name} is not a readable picture.") from error


def _check_sides(found: Sequence[int], wanted: Sequence[int], item: MaskedSample) -> None:
    if tuple(found) != tuple(wanted):
        raise MaskError(
            f"{item.where}: mask {item.mask_path.name} is {' x '.join(map(str, found))}, "
            f"{item.sample.file} is {' x '.join(map(str, wanted))}; they must be of one size."
        )


def _numbers(values: NDArray[np.generic], classes: Sequence[str], item: MaskedSample) -> Mask:
    """Return a mask's values as numbers of classes."""
    if len(classes) == 1:
        return (values != 0).astype(np.uint8)
    unknown = sorted(set(np.unique(values).tolist()) - set(range(len(classes) + 1)))
    if unknown:
        raise UnknownClassError(
            f"{item.where}: mask {item.mask_path.name} has the value {unknown[0]:g}; the recipe "
            f"has the classes 1 to {len(classes)} ({', '.join(classes)})."
        )
    return values.astype(np.uint8)
