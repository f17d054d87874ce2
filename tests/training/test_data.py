"""labels.csv: reading, splitting, and every way it can be wrong."""

from __future__ import annotations

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
from training.data import data_digest, load_samples, of_split
from training.recipe import DataSpec

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
