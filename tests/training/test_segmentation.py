"""Masks: learnt, judged through the serving path, and refused before training when wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.training.conftest import Cli
from tests.training.factories import read_labels, write_labels, write_recipe
from tests.training.mask_factories import (
    balls_recipe,
    discs_recipe,
    save_nifti,
    slices_recipe,
    write_balls,
    write_discs,
)
from training.errors import TrainingError
from training.mask_augment import build_mask_augment
from training.mask_metrics import MaskAnswer, evaluate_masks
from training.masked_data import MaskedCanvas
from training.progress import Silent
from training.recipe import AugmentSpec, Recipe, recipe_text
from training.tasks.segmentation import open_task


@pytest.mark.parametrize(
    ("values", "write", "least"),
    [
        (discs_recipe, write_discs, 0.8),
        (balls_recipe, write_balls, 0.3),
        (slices_recipe, write_balls, 0.3),
    ],
    ids=["pictures", "volumes", "slices"],
)
def test_masks_are_learnt_and_the_checkpoint_verifies(
    cli: Cli,
    tmp_path: Path,
    values: Callable[[], dict[str, Any]],
    write: Callable[[Path], Path],
    least: float,
) -> None:
    data, models = write(tmp_path / "data"), tmp_path / "models"
    recipe = values()
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    outcome = cli("train", path, "--data", data, "--out", models, "--threads", "1")
    assert outcome.status == 0, outcome.err
    record = json.loads((models / recipe["id"] / "metrics.json").read_text())
    assert record["metrics"]["dice"]["value"] > least
    assert list(record["per_class"]) == recipe["data"]["classes"]
    assert record["per_source"]["generated"]["n"] == record["n"]
    low, high = record["metrics"]["iou"]["ci95"]
    assert low <= record["metrics"]["iou"]["value"] <= high
    assert cli("models", "verify", "--models", models).status == 0
    again = cli("models", "evaluate", recipe["id"], "--models", models, "--data", data, "--json")
    assert json.loads(again.out)["metrics"] == record["metrics"]


def test_manifest_says_what_is_background(cli: Cli, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(balls_recipe())
    assert recipe.activation == "softmax"
    assert recipe.network_ref.channels == 3
    assert recipe.first_channel == 1
    assert Recipe.model_validate(yaml.safe_load(recipe_text(recipe))) == recipe
    assert Recipe.model_validate(discs_recipe()).activation == "sigmoid"


def _shrink(folder: Path) -> None:
    path = folder / "masks" / "3.png"
    with Image.open(path) as mask:
        mask.resize((30, 30)).save(path)


def _drop_mask(folder: Path) -> None:
    (folder / "masks" / "3.png").unlink()


def _no_column(folder: Path) -> None:
    write_labels(folder, [{"file": row["file"]} for row in read_labels(folder)])


def _empty(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.new("L", (36, 40)).save(path)


def _not_a_picture(folder: Path) -> None:
    (folder / "masks" / "0.png").write_bytes(b"not a picture")


def _one_group(folder: Path) -> None:
    write_labels(folder, [row | {"group": "one"} for row in read_labels(folder)])


@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        (_shrink, "DATA_MASK", "line 5: mask 3.png is 30 x 30, images/3.png is 40 x 36"),
        (_drop_mask, "DATA_FILE_MISSING", "line 5: there is no mask 'masks/3.png'"),
        (_no_column, "DATA_LABELS", "no column 'mask'"),
        (_empty, "DATA_CLASS_MISSING", "No mask of split 'train' shows 'disc'"),
        (_not_a_picture, "DATA_FILE_UNREADABLE", "line 2: 0.png is not a readable picture"),
        (_one_group, "DATA_GROUP_SPLIT", "one"),
    ],
)
def test_wrong_pictures_are_refused_before_training(
    tmp_path: Path, harm: Callable[[Path], None], code: str, words: str
) -> None:
    data = write_discs(tmp_path / "data")
    harm(data)
    with pytest.raises(TrainingError, match=words) as caught:
        open_task(Recipe.model_validate(discs_recipe()), data, None, Silent())
    assert caught.value.code == code


def _nan(folder: Path) -> None:
    values = np.zeros((16, 32, 36), np.float32)
    values[3, 4, 5] = np.nan
    save_nifti(folder / "images" / "2.nii.gz", values)


def _four_axes(folder: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8, 2), np.int16), np.eye(4))
    nibabel.save(image, folder / "images" / "2.nii.gz")


def _unknown_value(folder: Path) -> None:
    save_nifti(folder / "masks" / "2.nii.gz", np.full((16, 32, 36), 7, np.int16))


def _elsewhere(folder: Path) -> None:
    save_nifti(folder / "masks" / "2.nii.gz", np.ones((16, 32, 36), np.int16), (3.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        (_nan, "DATA_FILE_UNREADABLE", "line 4: images/2.nii.gz can't be used: .*no numbers"),
        (_four_axes, "DATA_FILE_UNREADABLE", "line 4: images/2.nii.gz holds 2 volumes"),
        (_unknown_value, "DATA_CLASS_UNKNOWN", "mask 2.nii.gz has the value 7"),
        (_elsewhere, "DATA_MASK", "lies elsewhere"),
    ],
)
def test_wrong_volumes_are_refused_before_training(
    tmp_path: Path, harm: Callable[[Path], None], code: str, words: str
) -> None:
    data = write_balls(tmp_path / "data")
    harm(data)
    with pytest.raises(TrainingError, match=words) as caught:
        open_task(Recipe.model_validate(balls_recipe()), data, None, Silent())
    assert caught.value.code == code


def test_start_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = Path(__file__).parents[2] / "checkpoints/cxr-pneumonia/weights.safetensors"
    data = write_discs(tmp_path / "data")
    with pytest.raises(TrainingError, match="doesn't fit the network") as caught:
        open_task(Recipe.model_validate(discs_recipe()), data, weights, Silent())
    assert caught.value.code == "START_WEIGHTS"


def answer(common: int, true: int, reported: int, group: str = "a") -> MaskAnswer:
    counts = (np.array([value], np.int64) for value in (common, true, reported))
    return MaskAnswer(*counts, group, "here")


def test_figures_of_known_overlaps() -> None:
    record = evaluate_masks([answer(50, 100, 50, "a"), answer(0, 0, 0, "b")], ("one",))
    # 2 * 50 / 150 and 50 / 100; nothing there and nothing reported is right
    assert record["metrics"]["dice"]["value"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert record["metrics"]["iou"]["value"] == pytest.approx(0.75)
    assert record["metrics"]["volume_error"]["value"] == pytest.approx(0.5)
    assert record["per_class"]["one"]["n"] == 1


def test_samples_of_one_group_are_drawn_together() -> None:
    apart = [answer(value, 100, 100, str(value)) for value in range(0, 100, 10)]
    together = [answer(value, 100, 100, "same") for value in range(0, 100, 10)]
    low, high = evaluate_masks(apart, ("one",))["metrics"]["dice"]["ci95"]
    assert high - low > 0.1
    low, high = evaluate_masks(together, ("one",))["metrics"]["dice"]["ci95"]
    assert low == high


def test_mask_moves_with_its_picture() -> None:
    y, x = np.mgrid[:64, :64]
    disc = (y - 30) ** 2 + (x - 36) ** 2 < 150
    canvas = MaskedCanvas(disc.astype(np.float16), disc.astype(np.uint8), None)
    spec = AugmentSpec(rotate_degrees=180, scale=0.2, shift=0.1, flip="both", elastic_px=2)
    augment = build_mask_augment(spec, (48, 48), 0)
    for _ in range(8):
        values, mask = augment(canvas)
        assert values.shape == mask.shape == (48, 48)
        assert ((values > 0.5) == (mask == 1)).mean() > 0.98


def test_one_seed_gives_one_sequence() -> None:
    pixels = np.random.default_rng(0).random((40, 40)).astype(np.float16)
    canvas = MaskedCanvas(pixels, (pixels > 0.5).astype(np.uint8), None)
    spec = AugmentSpec(rotate_degrees=90, noise=0.1, gamma=0.3)
    first, second = (build_mask_augment(spec, (32, 32), 4) for _ in range(2))
    for _ in range(3):
        for one, other in zip(first(canvas), second(canvas), strict=True):
            np.testing.assert_array_equal(one, other)
