"""The recipes for public sets, on tiny generated pictures in the layout of each set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.registry import load_model
from tests.training.conftest import Cli
from training.data import load_samples
from training.recipe import load_recipe

REPOSITORY = Path(__file__).parents[2]
RECIPES = REPOSITORY / "training" / "recipes"
START = REPOSITORY / "checkpoints" / "cxr-pneumonia" / "weights.safetensors"
COUNT = 14
"""Pictures of each class."""


def montgomery_and_shenzhen(folder: Path) -> None:
    for number in range(COUNT * 2):
        place, start = ("ChinaSet_AllFiles", "CHN") if number % 3 else ("MontgomerySet", "MCU")
        name = f"{start}CXR_{number:04}_{number % 2}.png"
        write(folder / place / "CXR_png" / name, number % 2, (240, 232), "L")
        if start == "MCU":  # the masks of both lungs, of the same name
            write(folder / place / "ManualMask" / "leftMask" / name, 0, (240, 232), "L")


def nih_malaria(folder: Path) -> None:
    for number in range(COUNT * 2):
        kind = ("Uninfected", "Parasitized")[number % 2]
        name = f"C{number // 3}P{number // 3 + 1}ThinF_IMG_20150918_144104_cell_{number}.png"
        for place in (folder, folder / "cell_images"):  # packed twice, as on Kaggle
            write(place / kind / name, number % 2, (70, 64), "RGB", seed=number)
    (folder / "Uninfected" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def oral_photographs(folder: Path) -> None:
    for number in range(COUNT):
        for label, kind in enumerate(("Data caries/Data caries", "Gingivitis", "Mouth Ulcer")):
            write(folder / kind / f"{number}.JPG", label, (136, 150), "RGB")
        write(folder / "hypodontia" / f"{number}.jpg", 0, (136, 150), "RGB")


def write(
    path: Path, label: int, size: tuple[int, int], mode: str, seed: int | None = None
) -> None:
    """Write a dark, middling or bright picture with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([*path.as_posix().encode()] if seed is None else seed)
    rows, columns = size
    shape = (rows, columns) if mode == "L" else (rows, columns, 3)
    pixels = generator.normal(60 + 70 * label, 15, shape).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


SETS: dict[str, Callable[[Path], None]] = {
    "cxr-tuberculosis": montgomery_and_shenzhen,
    "malaria-cells": nih_malaria,
    "oral-disease": oral_photographs,
}


@pytest.mark.parametrize("name", SETS)
def test_set_as_distributed_becomes_a_model_that_verifies(
    cli: Cli, name: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    SETS[name](data)
    arguments = ["--data", data, "--out", out, "--epochs", "1", "--threads", "1"]
    outcome = cli("train", RECIPES / f"{name}.yaml", *arguments, "--start-weights", START)
    assert outcome.status == 0, outcome.err
    record = json.loads((out / name / "metrics.json").read_text())
    parts = record["how"]["pictures"]
    classes = load_recipe(RECIPES / f"{name}.yaml").data.classes
    assert set(parts["val"]) == set(parts["train"]) == set(classes)
    # a model that doesn't verify would not have been written: see test_verify.py
    assert load_model(out / name).manifest.id == name


def test_tuberculosis_is_reported_for_each_place(tmp_path: Path) -> None:
    montgomery_and_shenzhen(tmp_path)
    samples = load_samples(tmp_path, load_recipe(RECIPES / "cxr-tuberculosis.yaml").data, 1)
    assert len(samples) == COUNT * 2
    assert {sample.source for sample in samples} == {"MCUCXR", "CHNCXR"}
    assert all(sample.file.endswith(f"_{sample.label}.png") for sample in samples)


def test_cells_of_one_smear_stay_together_and_count_once(tmp_path: Path) -> None:
    nih_malaria(tmp_path)
    samples = load_samples(tmp_path, load_recipe(RECIPES / "malaria-cells.yaml").data, 1)
    assert len(samples) == COUNT * 2
    splits = {sample.group: set[str]() for sample in samples}
    for sample in samples:
        splits[sample.group].add(sample.split)
    assert len(splits) == -(-COUNT * 2 // 3)
    assert all(len(parts) == 1 for parts in splits.values())


def test_other_folders_of_the_oral_set_are_passed_over(tmp_path: Path) -> None:
    oral_photographs(tmp_path)
    samples = load_samples(tmp_path, load_recipe(RECIPES / "oral-disease.yaml").data, 1)
    assert len(samples) == COUNT * 3
    shares = {split: sum(s.split == split for s in samples) for split in ("train", "val", "test")}
    assert shares["train"] == pytest.approx(0.70 * COUNT * 3, abs=4)
    assert shares["val"] == pytest.approx(0.15 * COUNT * 3, abs=4)


def test_labels_csv_is_read_where_there_is_one(tmp_path: Path) -> None:
    oral_photographs(tmp_path)
    rows = ["file,label,split", *(f"Gingivitis/{n}.JPG,ulcer,train" for n in range(COUNT - 4))]
    rows += [f"Gingivitis/{n}.JPG,ulcer,val" for n in range(COUNT - 4, COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    samples = load_samples(tmp_path, load_recipe(RECIPES / "oral-disease.yaml").data, 1)
    assert {sample.label for sample in samples} == {2}
    assert len(samples) == COUNT
