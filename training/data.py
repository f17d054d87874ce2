"""``labels.csv``: which pictures there are, what they show, and which part they belong to.

One row a picture: ``file`` (relative to the folder), ``label``, and where known ``split`` (train,
val or test), ``group`` (pictures of one patient share it) and ``source``. Everything that can be
wrong with a data folder, short of damaged pixels, is found here, before any training.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from inference.errors import ImageError
from inference.reading import read_image
from inference.source_image import SourceImage
from training.errors import (
    GroupSplitError,
    LabelsError,
    OneClassError,
    PictureError,
    PictureMissingError,
    SplitError,
    UnknownClassError,
)
from training.layouts import layout_rows
from training.recipe import AlsoSpec, DataSpec

LABELS_NAME = "labels.csv"
ARCHIVE_NAME = "images.zip"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture."""

    file: str
    """As in ``labels.csv``."""
    path: Path | zipfile.Path
    label: int
    """Position of its class in the recipe's ``data.classes``."""
    split: str
    group: str
    source: str
    labels: tuple[int, ...] = ()
    """With ``data.multi_label``: 1 for each class that it shows, else 0."""

    def open(self) -> BinaryIO:
        """Open the picture's file."""
        return cast(BinaryIO, self.path.open("rb"))

    def read(self) -> SourceImage:
        """Read the picture as serving does.

        Raises
        ------
        PictureError
            It can't be read; the sentence names it.
        """
        try:
            with self.open() as file:
                return read_image(file)
        except (ImageError, OSError, zipfile.BadZipFile) as error:
            raise PictureError(f"{self.file} can't be used: {error}") from error


def load_samples(folder: Path, spec: DataSpec, seed: int) -> tuple[Sample, ...]:
    """Read and check ``labels.csv``; a folder without validation pictures is split.

    A folder without ``labels.csv`` is read by ``data.layout``, if the recipe has one.

    A split keeps groups together and the classes' shares about equal; the same `seed` gives the
    same split.

    Raises
    ------
    DataError
        One of its kinds; the sentence names the row's line or the class.
    """
    rows = _rows(folder, spec)
    names = {name: name for name in spec.classes}
    pictures = _Folder(folder)
    samples = tuple(
        _sample(pictures, LABELS_NAME, row, line, spec, names)
        for line, row in enumerate(rows, start=2)
    )
    samples = split_samples(samples, spec, seed, has_splits="split" in rows[0])
    check_groups(samples)
    return samples


def split_samples(
    samples: tuple[Sample, ...], spec: DataSpec, seed: int, *, has_splits: bool
) -> tuple[Sample, ...]:
    """Split off test and validation samples where the data folder doesn't say which they are.

    Raises
    ------
    SplitError
        There are too few.
    """
    share = spec.validation_share
    if not has_splits:
        samples = _split_off(samples, "test", spec.test_share, seed)
        share /= 1.0 - spec.test_share  # of what is left, so that it is the share of all
    if not any(sample.split == "val" for sample in samples):
        samples = _split_off(samples, "val", share, seed)
    return samples


def with_added(samples: tuple[Sample, ...], folder: Path, spec: DataSpec) -> tuple[Sample, ...]:
    """Return `samples` with the training pictures of the folders in ``data.also`` after them.

    Validation and test pictures of those folders are left out. A group of one name is one group,
    whichever folder it is in.

    Parameters
    ----------
    samples
        Of `folder`, from :func:`load_samples`.

    Raises
    ------
    DataError
        One of its kinds; the sentence names the folder.
    """
    added = [sample for also in spec.also for sample in _added(folder, also, spec)]
    together = (*samples, *added)
    check_groups(together)
    return together


def of_split(samples: Iterable[Sample], split: str, classes: Sequence[str]) -> tuple[Sample, ...]:
    """Return the samples of one split, which must show every class.

    Raises
    ------
    SplitError
        It is empty.
    OneClassError
        It lacks a class. Several labels: only training pictures have to show every class.
    """
    chosen = tuple(sample for sample in samples if sample.split == split)
    if not chosen:
        raise SplitError(f"{LABELS_NAME} has no pictures of split {split!r}.")
    if chosen[0].labels and split != "train":
        return chosen
    counts = Counter(shown for sample in chosen for shown in _shown_by(sample))
    for label, name in enumerate(classes):
        if not counts[label]:
            raise OneClassError(
                f"Split {split!r} has no picture of class {name!r}; every class is needed there."
            )
    return chosen


def _shown_by(sample: Sample) -> Iterable[int]:
    return np.flatnonzero(sample.labels).tolist() if sample.labels else [sample.label]


def data_digest(samples: Iterable[Sample]) -> str:
    """Return a sha256 over files, labels, splits and the pictures' bytes, in order of files."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.file):
        with sample.open() as file:
            content = hashlib.sha256(file.read()).hexdigest()
        label = "".join(map(str, sample.labels)) or str(sample.label)
        digest.update(f"{sample.file}\t{label}\t{sample.split}\t{content}\n".encode())
    return digest.hexdigest()


def _rows(folder: Path, spec: DataSpec) -> list[dict[str, str]]:
    path = folder / LABELS_NAME
    if spec.layout is not None and not path.exists():
        return layout_rows(folder, spec.layout)
    return read_rows(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``labels.csv``, which has at least ``file`` and ``label``.

    Raises
    ------
    LabelsError
        It is missing, unreadable, empty or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or ()
    except OSError as error:
        raise LabelsError(
            f"{path} can't be read ({error.strerror}); the data folder needs it."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} is not a CSV file in UTF-8.") from error
    for column in ("file", "label"):
        if column not in columns:
            raise LabelsError(f"{path} has no column {column!r}; it needs at least file and label.")
    if not rows:
        raise LabelsError(f"{path} has no rows.")
    return rows


def _added(folder: Path, also: AlsoSpec, spec: DataSpec) -> list[Sample]:
    """Return the training samples of one folder of ``data.also``, named by their path to it."""
    added = folder / also.folder
    where = f"{also.folder}/{LABELS_NAME}"
    if not added.is_dir():
        raise LabelsError(
            f"There is no folder {also.folder!r} beside the data folder; the recipe's data.also "
            "needs it."
        )
    names = also.labels or {name: name for name in spec.classes}
    pictures = _Folder(added)
    samples = []
    for line, row in enumerate(read_rows(added / LABELS_NAME), start=2):
        if row.get("split", "train") in {"val", "test"}:
            continue
        sample = _sample(pictures, where, row, line, spec, names)
        group = row.get("group") or f"{also.folder}/{sample.file}"
        samples.append(replace(sample, file=f"{also.folder}/{sample.file}", group=group))
    return samples


def _sample(
    pictures: _Folder,
    where: str,
    row: Mapping[str, str | None],
    line: int,
    spec: DataSpec,
    names: Mapping[str, str],
) -> Sample:
    """Return one row as a sample; `names` says which class each label is."""
    file, label = row["file"] or "", row["label"] or ""
    split = row.get("split", "train") or ""
    if not spec.multi_label and label not in names:
        raise UnknownClassError(
            f"{where} line {line}: label {label!r} is not one of {', '.join(names)}."
        )
    if split not in SPLITS:
        raise SplitError(f"{where} line {line}: split {split!r} is not train, val or test.")
    path = pictures.find(file)
    if path is None:
        raise PictureMissingError(f"{where} line {line}: there is no file {file!r}.")
    return Sample(
        file=file,
        path=path,
        label=0 if spec.multi_label else spec.classes.index(names[label]),
        split=split,
        group=row.get("group") or file,
        source=row.get("source") or "",
        labels=_labels(row, where, line, spec.classes) if spec.multi_label else (),
    )


def _labels(
    row: Mapping[str, str | None], where: str, line: int, classes: Sequence[str]
) -> tuple[int, ...]:
    """Return the columns of the classes as numbers."""
    for name in classes:
        if row.get(name) not in {"0", "1"}:
            found = "missing" if row.get(name) is None else f"{row[name]!r}"
            raise LabelsError(
                f"{where} line {line}: column {name!r} is {found}; it must be 0 or 1."
            )
    return tuple(int(row[name] or 0) for name in classes)


class _Folder:
    """Pictures as files, or as members of an ``images.zip`` beside ``labels.csv``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        archive = folder / ARCHIVE_NAME
        try:
            self._archive = zipfile.ZipFile(archive) if archive.is_file() else None
        except zipfile.BadZipFile as error:
            raise LabelsError(f"{archive} is not a complete zip file; get it again.") from error
        self._members = set(self._archive.namelist()) if self._archive is not None else set()

    def find(self, file: str) -> Path | zipfile.Path | None:
        if self._archive is not None and file in self._members:
            return zipfile.Path(self._archive, file)
        path = self._folder / file
        return path if file and path.is_file() else None


def _split_off(
    samples: tuple[Sample, ...], name: str, share: float, seed: int
) -> tuple[Sample, ...]:
    """Move about `share` of the training samples to split `name`, whole groups at a time."""
    if share == 0.0:
        return samples
    from sklearn.model_selection import StratifiedGroupKFold

    training = [index for index, sample in enumerate(samples) if sample.split == "train"]
    labels = np.array([samples[index].label for index in training])
    groups = np.array([samples[index].group for index in training])
    folds = max(2, round(1.0 / share))
    if len(set(groups.tolist())) < folds or min(np.bincount(labels)) < folds:
        raise SplitError(
            f"The data are too few to split: {folds} groups and {folds} pictures of each class are "
            f"needed to set apart {share:.0%} as {name!r}."
        )
    folding = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    _, chosen = next(iter(folding.split(labels, labels, groups)))
    moved = {training[index] for index in chosen.tolist()}
    return tuple(
        replace(sample, split=name) if index in moved else sample
        for index, sample in enumerate(samples)
    )


def check_groups(samples: Iterable[Sample]) -> None:
    """Refuse samples of one group in several splits.

    Raises
    ------
    GroupSplitError
        There are such; the sentence names the group.
    """
    split_of: dict[str, str] = {}
    for sample in samples:
        known = split_of.setdefault(sample.group, sample.split)
        if known != sample.split:
            raise GroupSplitError(
                f"Group {sample.group!r} is in splits {known!r} and {sample.split!r}; pictures of "
                "one group belong to one split."
            )
