"""labels.csv: reading, splitting, and every way it can be wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.conftest import QUICK, Cli
from tests.training.factories import (
    read_labels,
    recipe_values,
    write_data,
    write_labels,
    write_recipe,
)
from training.data import data_digest, load_samples, of_split, with_added
from training.errors import DataError
from training.recipe import AlsoSpec, DataSpec

SPEC = DataSpec(classes=("plain", "spot"))


def test_rows_become_samples(data_dir: Path) -> None:
    samples = load_samples(data_dir, SPEC, seed=1)
    assert len(samples) == 52
    assert samples[1].file == "images/001.png"
    assert samples[1].label == 1
    assert samples[1].group == "g1"
    assert samples[1].source == "generated"
    assert Counter(sample.split for sample in samples) == {"train": 40, "val": 12}


def test_folder_without_splits_is_split_by_groups_and_classes(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", count=200, val=0, columns=("file", "label", "group"))
    rows = read_labels(folder)
    for number, row in enumerate(rows):
        row["group"] = f"patient{number // 2}"
    write_labels(folder, rows)
    samples = load_samples(folder, SPEC, seed=1)
    counts = Counter((sample.split, sample.label) for sample in samples)
    for split, expected in (("train", 72), ("val", 12), ("test", 15)):
        for label in (0, 1):
            assert counts[split, label] == pytest.approx(expected, abs=4)
    split_of = {sample.group: sample.split for sample in samples}
    assert all(split_of[sample.group] == sample.split for sample in samples)
    assert samples == load_samples(folder, SPEC, seed=1)
    assert samples != load_samples(folder, SPEC, seed=2)


def test_validation_pictures_are_taken_from_training_when_none_are_named(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", count=60, val=0)
    samples = load_samples(folder, SPEC, seed=1)
    counts = Counter(sample.split for sample in samples)
    assert counts["val"] == pytest.approx(9, abs=2)
    assert counts["test"] == 0
    of_split(samples, "val", SPEC.classes)


def test_digest_changes_with_a_picture_or_a_label(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "data", count=4, val=2)
    before = data_digest(load_samples(folder, SPEC, seed=1))
    assert data_digest(load_samples(folder, SPEC, seed=1)) == before
    (folder / "images/000.png").write_bytes((folder / "images/002.png").read_bytes())
    changed = data_digest(load_samples(folder, SPEC, seed=1))
    assert changed != before
    rows = read_labels(folder)
    rows[0]["label"] = "spot"
    write_labels(folder, rows)
    assert data_digest(load_samples(folder, SPEC, seed=1)) != changed


ALSO = AlsoSpec(folder="../other", labels={"none": "plain", "dot": "spot", "ring": "spot"})
POOL = DataSpec(classes=("plain", "spot"), also=(ALSO,))


def write_pool(tmp_path: Path) -> tuple[Path, Path]:
    """Write a data folder, and another one with other labels beside it."""
    main = write_data(tmp_path / "main")
    other = write_data(tmp_path / "other", count=9, val=6, classes=("none", "dot", "ring"))
    write_labels(other, [{**row, "group": f"o{row['group']}"} for row in read_labels(other)])
    return main, other


def test_training_pictures_of_other_folders_are_added_under_their_mapped_class(
    tmp_path: Path,
) -> None:
    main, _ = write_pool(tmp_path)
    alone = load_samples(main, POOL, seed=1)
    samples = with_added(alone, main, POOL)
    added = samples[len(alone) :]
    assert samples[: len(alone)] == alone
    assert [sample.split for sample in added] == ["train"] * 9
    assert [sample.label for sample in added] == [0, 1, 1] * 3
    assert added[2].file == "../other/images/002.png"
    assert added[2].path.is_file()
    assert data_digest(samples) != data_digest(alone)


def test_labels_of_other_folders_may_be_called_the_same(tmp_path: Path) -> None:
    main, other = write_pool(tmp_path)
    rows = [{**row, "label": "spot"} for row in read_labels(other)]
    write_labels(other, rows)
    same = DataSpec(classes=("plain", "spot"), also=(AlsoSpec(folder="../other"),))
    assert len(with_added(load_samples(main, same, 1), main, same)) == 52 + 9


def same_group_as_validation(main: Path, other: Path) -> None:
    rows = read_labels(other)
    rows[0]["group"] = "g51"
    write_labels(other, rows)


def unmapped_label(main: Path, other: Path) -> None:
    rows = read_labels(other)
    rows[0]["label"] = "plain"
    write_labels(other, rows)


def no_folder(main: Path, other: Path) -> None:
    other.rename(main / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_folder, "There is no folder '../other' beside the data folder"),
        (unmapped_label, "../other/labels.csv line 2: label 'plain' is not one of none, dot, ring"),
        (lambda _, other: (other / "images/000.png").unlink(), "../other/labels.csv line 2: there"),
        (lambda _, other: (other / "labels.csv").unlink(), "other/labels.csv can't be read"),
        (same_group_as_validation, "Group 'g51' is in splits 'val' and 'train'"),
    ],
)
def test_bad_added_folder_ends_with_one_clear_sentence(
    tmp_path: Path, spoil: Callable[[Path, Path], object], sentence: str
) -> None:
    main, other = write_pool(tmp_path)
    spoil(main, other)
    with pytest.raises(DataError, match=re.escape(sentence)):
        with_added(load_samples(main, POOL, seed=1), main, POOL)


Spoil = Callable[[Path, list[dict[str, str]]], object]


def only_class_in_val(folder: Path, rows: list[dict[str, str]]) -> None:
    write_labels(folder, [r for r in rows if r["split"] == "train" or r["label"] == "spot"])


def change_first(**values: str) -> Spoil:
    def spoil(folder: Path, rows: list[dict[str, str]]) -> None:
        rows[0].update(values)
        write_labels(folder, rows)

    return spoil


def without_column(name: str) -> Spoil:
    return lambda folder, rows: write_labels(
        folder, [{key: value for key, value in row.items() if key != name} for row in rows]
    )


def too_few_to_split(folder: Path, rows: list[dict[str, str]]) -> None:
    write_labels(folder, [{**row, "split": "train"} for row in rows[:8]])


BAD: list[tuple[str, str, Spoil]] = [
    ("DATA_LABELS", "labels.csv can't be read", lambda f, _: (f / "labels.csv").unlink()),
    ("DATA_LABELS", "no column 'label'", without_column("label")),
    ("DATA_LABELS", "no column 'file'", without_column("file")),
    ("DATA_LABELS", "has no rows", lambda f, _: (f / "labels.csv").write_text("file,label\n")),
    ("DATA_LABELS", "not a CSV file", lambda f, _: (f / "labels.csv").write_bytes(b"\xff\xfe\x00")),
    ("DATA_FILE_MISSING", "line 2: there is no file 'x.png'", change_first(file="x.png")),
    ("DATA_FILE_MISSING", "line 2: there is no file ''", change_first(file="")),
    (
        "DATA_CLASS_UNKNOWN",
        "line 2: label 'dot' is not one of plain, spot",
        change_first(label="dot"),
    ),
    ("DATA_CLASS_MISSING", "Split 'val' has no picture of class 'plain'", only_class_in_val),
    ("DATA_GROUP_SPLIT", "'g51' is in splits", change_first(group="g51")),
    ("DATA_SPLIT", "line 2: split 'holdout'", change_first(split="holdout")),
    ("DATA_SPLIT", "too few to split", too_few_to_split),
    (
        "DATA_FILE_UNREADABLE",
        "images/000.png can't be used",
        lambda f, _: (f / "images/000.png").write_bytes(b"not a picture"),
    ),
]


@pytest.mark.parametrize(("code", "sentence", "spoil"), BAD)
def test_bad_data_ends_with_one_clear_sentence_before_training(
    cli: Cli, tmp_path: Path, code: str, sentence: str, spoil: Spoil
) -> None:
    folder = write_data(tmp_path / "data")
    spoil(folder, read_labels(folder))
    recipe = write_recipe(tmp_path / "recipe.yaml", recipe_values())
    outcome = cli("train", recipe, "--data", folder, "--out", tmp_path / "out", *QUICK)
    assert outcome.status == 1
    assert outcome.err.startswith(f"{code}: ")
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
