"""Pictures of data folders as a gate sees them: descriptions and measures, without labels."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from inference.descriptor import SIZE, Measures, describe, measure
from inference.errors import ImageError
from inference.quality import middle_slice
from inference.reading import read_image
from training.data import ARCHIVE_NAME, LABELS_NAME
from training.errors import LabelsError, PictureError, PictureMissingError
from training.gate_changes import Picture, harmless, turned
from training.layouts import LayoutSpec, layout_rows
from training.progress import Progress

VOLUME_SUFFIXES = (".nii", ".nii.gz")
TURNS = 8
NEIGHBOURS = (0.4, 0.5, 0.6)
"""Places of slices that a gate of volumes is fitted on."""

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Listed:
    """One picture or volume of a data folder."""

    name: str
    open: Callable[[], BinaryIO]
    split: str
    group: str

    @property
    def is_volume(self) -> bool:
        """Whether it has slices."""
        return self.name.endswith(VOLUME_SUFFIXES)

    def read(self, place: float = 0.5) -> Picture:
        """Read display values; of a volume its middle slice, or the one at a share of the way.

        Raises
        ------
        PictureError
            It can't be read; the sentence names it.
        """
        try:
            with self.open() as file:
                if self.is_volume:
                    return _slice_of(file.read(), self.name, place)
                return read_image(file).array
        except (ImageError, OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            raise PictureError(f"{self.name} can't be used: {error}") from error


@dataclass(frozen=True, slots=True)
class Looks:
    """What N pictures look like.

    Attributes
    ----------
    descriptions
        float32 [N, SIZE] of ``inference.descriptor``.
    measures
        Technical quality of each.
    groups
        str [N]; pictures of one group are not independent.
    """

    descriptions: Numbers
    measures: tuple[Measures, ...]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.groups)


def list_pictures(folder: Path, layout: LayoutSpec | None = None) -> tuple[Listed, ...]:
    """Return what ``labels.csv`` (or the layout, without it) names; labels are not looked at.

    Rows without a split count as training pictures.

    Raises
    ------
    DataError
        One of its kinds.
    """
    path = folder / LABELS_NAME
    if layout is not None and not path.exists():
        rows: Sequence[Mapping[str, str]] = layout_rows(folder, layout)
    else:
        rows = _rows(path)
    archive = _archive(folder / ARCHIVE_NAME)
    return tuple(_listed(folder, archive, row, line) for line, row in enumerate(rows, start=2))


def looks_of(
    pictures: Sequence[Listed],
    progress: Progress,
    change: Callable[[Picture], Iterator[Picture]],
    name: str,
    *,
    has_neighbours: bool = False,
) -> Looks:
    """Read pictures and describe what `change` makes of each.

    With `has_neighbours` of a volume the slices around the middle one count too.

    Raises
    ------
    PictureError
        One can't be read.
    """
    descriptions, measures, groups = [], [], []
    with progress.stage(name, len(pictures)) as advance:
        for item in pictures:
            places = NEIGHBOURS if has_neighbours and item.is_volume else (0.5,)
            for changed in chain.from_iterable(change(item.read(place)) for place in places):
                descriptions.append(describe(changed))
                measures.append(measure(changed))
                groups.append(item.group)
            advance()
    table = np.stack(descriptions) if descriptions else np.zeros((0, SIZE), np.float32)
    return Looks(table, tuple(measures), np.array(groups, np.str_))


def as_it_is(picture: Picture) -> Iterator[Picture]:
    """Give the picture alone."""
    yield picture


def with_harmless(
    random: np.random.Generator, *, is_volume: bool
) -> Callable[..., Iterator[Picture]]:
    """Give each picture with one harmless change; slices of volumes in all eight orientations."""

    def change(picture: Picture) -> Iterator[Picture]:
        for turn in range(TURNS if is_volume else 1):
            other = turned(picture, turn)
            yield other
            yield harmless(other, random)

    return change


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise LabelsError(
            f"{path} can't be read ({error.strerror}); the data folder needs it."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} is not a CSV file in UTF-8.") from error
    if not rows or not rows[0].get("file"):
        raise LabelsError(f"{path} names no pictures; it needs rows with the column 'file'.")
    return rows


def _archive(path: Path) -> zipfile.ZipFile | None:
    if not path.is_file():
        return None
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise LabelsError(f"{path} is not a complete zip file; get it again.") from error


def _listed(
    folder: Path, archive: zipfile.ZipFile | None, row: Mapping[str, str], line: int
) -> Listed:
    name = row["file"]
    found: Path | zipfile.Path = folder / name
    if archive is not None and name in archive.NameToInfo:
        found = zipfile.Path(archive, name)
    if not name or not found.is_file():
        raise PictureMissingError(f"{LABELS_NAME} line {line}: there is no file {name!r}.")
    return Listed(
        name=name,
        open=lambda: cast(BinaryIO, found.open("rb")),
        split=row.get("split") or "train",
        group=row.get("group") or name,
    )


def _slice_of(data: bytes, name: str, place: float) -> Picture:
    """Return a slice of a NIfTI file as serving would show it."""
    kind = nibabel.Nifti1Image
    try:
        if name.endswith(".gz"):
            data = zlib.decompress(data, 16 + zlib.MAX_WBITS)
        voxels = np.asarray(kind.from_bytes(data).dataobj, np.float32)
    except ImageFileError as error:
        raise ValueError("it is not a NIfTI file") from error
    if voxels.ndim != 3 or not np.isfinite(voxels).all():
        raise ValueError("it is no volume of finite numbers")
    return middle_slice(voxels.transpose(2, 1, 0), place)
