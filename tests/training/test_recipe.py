"""Recipes: shipped ones load, wrong ones say where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.factories import recipe_values, write_recipe
from training.errors import RecipeError
from training.recipe import load_recipe, recipe_digest, recipe_text

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_under_its_own_name(path: Path) -> None:
    assert load_recipe(path).id == path.stem


def test_recipe_reads_back_what_it_writes(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "a.yaml", recipe_values()))
    (tmp_path / "b.yaml").write_text(recipe_text(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "b.yaml") == recipe


def test_digest_follows_the_number_of_epochs_but_not_the_texts(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "a.yaml", recipe_values())
    assert load_recipe(path, epochs=1).schedule.epochs == 1
    assert recipe_digest(load_recipe(path, epochs=1)) != recipe_digest(load_recipe(path))
    reworded = write_recipe(tmp_path / "b.yaml", changed("report.intended_use", "Other words"))
    assert recipe_digest(load_recipe(reworded)) == recipe_digest(load_recipe(path))


def changed(key: str, value: Any) -> dict[str, Any]:
    values = recipe_values()
    *folders, last = key.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("schedule.epoch", 3, "unknown key 'schedule.epoch'; did you mean 'epochs'?"),
        ("augment.rotat_degrees", 3, "did you mean 'rotate_degrees'?"),
        ("colour", "red", "unknown key 'colour'; remove it."),
        ("schedule.epochs", 0, "schedule.epochs: Input should be greater than or equal to 1"),
        ("data.classes", ["plain"], "data.classes needs at least two classes"),
        ("select.metric", "dice", "select.metric of classification is one of auc, f1"),
        ("data.classes", ["spot", "spot"], "one class twice"),
        ("data.classes", ["plain", "dot"], "report.outputs needs exactly these classes: dot"),
        ("network.name", "mobilenet", "network 'mobilenet' is not on the list"),
        ("input.mean", [0.1, 0.2], "mean and std need 1 or 3 numbers"),
        ("data.ordinal", True, "data.ordinal needs at least three classes"),
        ("loss", {"ordinal": 0.5}, "loss.ordinal needs data.ordinal: true"),
        ("select.metric", "quadratic_kappa", "quadratic_kappa needs data.ordinal: true"),
        ("data.also", [{"folder": "/tmp/other"}], "a path relative to the data folder is needed"),
        (
            "data.also",
            [{"folder": "../other", "labels": {"dot": "dots"}}],
            "'dots' is not one of the classes plain, spot",
        ),
    ],
)
def test_wrong_recipe_names_the_key(tmp_path: Path, key: str, value: Any, sentence: str) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", changed(key, value))
    with pytest.raises(RecipeError, match=r"recipe\.yaml") as caught:
        load_recipe(path)
    assert sentence in str(caught.value)


def test_missing_or_broken_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("id: [a\nb: c", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"not valid YAML \(line 2\)"):
        load_recipe(tmp_path / "broken.yaml")
