"""``labels.csv``: which pictures there are, what they show, and which part they belong to.

One row a picture: ``file`` (relative to the folder), ``label``, and where known ``split`` (train,
val or test), ``group`` (pictures of one patient share it) and ``source``. Everything that can be
wrong with a data folder, short of damaged pixels, is found here, before any training.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.errors import (
    GroupSplitError,
    LabelsError,
    OneClassError,
    PictureMissingError,
    SplitError,
    UnknownClassError,
)
from training.recipe import AlsoSpec, DataSpec

LABELS_NAME = "labels.csv"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled picture."""

    file: str
    """As in ``labels.csv``."""
    path: Path
    label: int
    """Position of its class in the recipe's ``data.classes``."""
    split: str
    group: str
    source: str


def load_samples(folder: Path, spec: DataSpec, seed: int) -> tuple[Sample, ...]:
    """Read and check ``labels.csv``; a folder without validation pictures is split.

    A split keeps groups together and the classes' shares about equal; the same `seed` gives the
    same split.

    Raises
    ------
    DataError
        One of its kinds; the sentence names the row's line or the class.
    """
    rows = _read_rows(folder / LABELS_NAME)
    names = {name: name for name in spec.classes}
    samples = tuple(
        _sample(folder, LABELS_NAME, row, line, spec.classes, names)
        for line, row in enumerate(rows, start=2)
    )
    if "split" not in rows[0]:
        samples = _split_off(samples, "test", spec.test_share, seed)
    if not any(sample.split == "val" for sample in samples):
        samples = _split_off(samples, "val", spec.validation_share, seed)
    _check_groups(samples)
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
    added = [sample for also in spec.also for sample in _added(folder, also, spec.classes)]
    together = (*samples, *added)
    _check_groups(together)
    return together


def of_split(samples: Iterable[Sample], split: str, classes: Sequence[str]) -> tuple[Sample, ...]:
    """Return the samples of one split, which must show every class.

    Raises
    ------
    SplitError
        It is empty.
    OneClassError
        It lacks a class.
    """
    chosen = tuple(sample for sample in samples if sample.split == split)
    if not chosen:
        raise SplitError(f"{LABELS_NAME} has no pictures of split {split!r}.")
    counts = Counter(sample.label for sample in chosen)
    for label, name in enumerate(classes):
        if not counts[label]:
            raise OneClassError(
                f"Split {split!r} has no picture of class {name!r}; every class is needed there."
            )
    return chosen


def data_digest(samples: Iterable[Sample]) -> str:
    """Return a sha256 over files, labels, splits and the pictures' bytes, in order of files."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.file):
        with sample.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{sample.file}\t{sample.label}\t{sample.split}\t{content}\n".encode())
    return digest.hexdigest()


def _read_rows(path: Path) -> list[dict[str, str]]:
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


def _added(folder: Path, also: AlsoSpec, classes: Sequence[str]) -> list[Sample]:
    """Return the training samples of one folder of ``data.also``, named by their path to it."""
    added = folder / also.folder
    where = f"{also.folder}/{LABELS_NAME}"
    if not added.is_dir():
        raise LabelsError(
            f"There is no folder {also.folder!r} beside the data folder; the recipe's data.also "
            "needs it."
        )
    names = also.labels or {name: name for name in classes}
    samples = []
    for line, row in enumerate(_read_rows(added / LABELS_NAME), start=2):
        if row.get("split", "train") in {"val", "test"}:
            continue
        sample = _sample(added, where, row, line, classes, names)
        group = row.get("group") or f"{also.folder}/{sample.file}"
        samples.append(replace(sample, file=f"{also.folder}/{sample.file}", group=group))
    return samples


def _sample(
    folder: Path,
    where: str,
    row: Mapping[str, str | None],
    line: int,
    classes: Sequence[str],
    names: Mapping[str, str],
) -> Sample:
    """Return one row as a sample; `names` says which class each label is."""
    file, label = row["file"] or "", row["label"] or ""
    split = row.get("split", "train") or ""
    if label not in names:
        raise UnknownClassError(
            f"{where} line {line}: label {label!r} is not one of {', '.join(names)}."
        )
    if split not in SPLITS:
        raise SplitError(f"{where} line {line}: split {split!r} is not train, val or test.")
    path = folder / file
    if not file or not path.is_file():
        raise PictureMissingError(f"{where} line {line}: there is no file {file!r}.")
    return Sample(
        file=file,
        path=path,
        label=classes.index(names[label]),
        split=split,
        group=row.get("group") or file,
        source=row.get("source") or "",
    )


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


def _check_groups(samples: Iterable[Sample]) -> None:
    split_of: dict[str, str] = {}
    for sample in samples:
        known = split_of.setdefault(sample.group, sample.split)
        if known != sample.split:
            raise GroupSplitError(
                f"Group {sample.group!r} is in splits {known!r} and {sample.split!r}; pictures of "
                "one group belong to one split."
            )
