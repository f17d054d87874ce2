"""A detector of bright squares, from labels.csv to a folder that verifies; and wrong boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inference.boxes import iou
from inference.manifest import InputSpec
from inference.networks import build_network
from inference.reading import read_image
from tests.training.conftest import QUICK, Cli
from tests.training.factories import read_labels, recipe_values, write_labels, write_recipe
from training.box_augment import build_box_augment
from training.box_metrics import BoxAnswer, best_overlaps, box_figures, evaluate_boxes, right_boxes
from training.boxed_data import added_boxed, load_boxed, load_boxed_canvases, without_objects
from training.detection_loss import BETWEEN, NOTHING, assign, detection_loss
from training.errors import DataError
from training.lesions import borrow_lesion, draw_lesion, tissue_of
from training.progress import Silent
from training.recipe import AlsoSpec, AugmentSpec, DataSpec, Recipe, load_recipe
from training.tasks.detection import open_task

SIDE = 64
SPEC = DataSpec(classes=("square",))
NO_PROGRESS = Silent()


def boxed_picture(generator: np.random.Generator, has_square: bool) -> tuple[Image.Image, str]:
    """Grey noise, 64 x 48, with or without a bright square, and its box."""
    pixels = generator.normal(70.0, 8.0, (SIDE, 48))
    if not has_square:
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), ""
    side = int(generator.integers(14, 26))
    row, column = generator.integers(2, SIDE - side - 2), generator.integers(2, 48 - side - 2)
    pixels[row : row + side, column : column + side] += 140.0
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image, f"{column},{row},{column + side},{row + side}"


def write_boxed(folder: Path, *, count: int = 12, val: int = 4, seed: int = 5) -> Path:
    """Every fourth picture has nothing to find."""
    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count + val):
        picture, box = boxed_picture(generator, number % 4 != 3)
        file = f"images/{number:03}.png"
        picture.save(folder / file)
        split = "train" if number < count else "val"
        label = "square" if box else ""
        group, source = f"{folder.name}{number}", "generated"
        row = {"file": file, "label": label, "split": split, "group": group, "source": source}
        rows.append({**row, "boxes": box})
    write_labels(folder, rows)
    return folder


def detection_values(**changes: Any) -> dict[str, Any]:
    values = recipe_values()
    values |= {
        "id": "squares",
        "pipeline": "detection",
        "data": {"classes": ["square"]},
        "network": {"name": "mobilenetv2-detector", "args": {"padding": "same"}},
        "select": {"metric": "mean_iou", "calibration": "temperature-and-bias"},
    }
    values["input"] = {**values["input"], "shape": [3, SIDE, SIDE], "resize": "letterbox"}
    spot = values["report"]["outputs"].pop("spot")
    values["report"]["outputs"]["square"] = {**spot, "label": "Square"}
    return values | changes


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxed(tmp_path_factory.mktemp("squares") / "data")


def change_row(folder: Path, number: int, **values: str) -> Path:
    rows = read_labels(folder)
    rows[number] |= values
    write_labels(folder, rows)
    return folder


# --- the data


def test_boxes_are_read(squares: Path) -> None:
    samples = load_boxed(squares, SPEC, 0)
    canvases = load_boxed_canvases(
        samples[:4], InputSpec(**detection_values()["input"]), NO_PROGRESS
    )
    box = [float(part) for part in read_labels(squares)[0]["boxes"].split(",")]
    # 64 x 48 lies 8 columns to the right on the square canvas
    np.testing.assert_allclose(canvases[0].boxes, [[box[0] + 8, box[1], box[2] + 8, box[3]]])
    inside = np.zeros((SIDE, SIDE), np.bool_)
    x_min, y_min, x_max, y_max = canvases[0].boxes[0].astype(int)
    inside[y_min:y_max, x_min:x_max] = True
    assert canvases[0].canvas[inside].min() > 0.6 > canvases[0].canvas[~inside].max()
    assert [len(item.boxes) for item in canvases] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"boxes": "1,2,30"}, r"line 2: box '1,2,30' is not four numbers"),
        ({"boxes": "1,2,x,30"}, "is not four numbers"),
        ({"boxes": "1,2,nan,30"}, "is not four numbers"),
        ({"boxes": "30,2,10,30"}, "ends before it begins"),
        ({"boxes": "3,2,10,2"}, "ends before it begins"),
        ({"boxes": ""}, "class 'square' needs at least one box"),
        ({"label": ""}, "its label says nothing is there"),
        ({"boxes": "3,2,90,20"}, "lies outside the picture, which has 48 columns and 64 rows"),
        ({"label": "circle"}, "'circle' is not one of"),
        ({"file": "images/none.png"}, "there is no file"),
    ],
)
def test_wrong_boxes_are_found_before_training(
    tmp_path: Path, values: dict[str, str], words: str
) -> None:
    data = change_row(write_boxed(tmp_path / "data"), 0, **values)
    recipe = Recipe.model_validate(detection_values(start_weights=None))
    with pytest.raises(DataError, match=words):
        open_task(recipe, data, None, NO_PROGRESS)


def test_data_without_boxes(tmp_path: Path) -> None:
    data = write_boxed(tmp_path / "data")
    rows = [{k: v for k, v in row.items() if k != "boxes"} for row in read_labels(data)]
    write_labels(data, rows)
    with pytest.raises(DataError, match="no column 'boxes'") as caught:
        load_boxed(data, SPEC, 0)
    assert caught.value.code == "DATA_LABELS"


def test_other_folders_add_what_can_be_learnt_from(tmp_path: Path) -> None:
    data = write_boxed(tmp_path / "data")
    other = write_boxed(tmp_path / "other", seed=6)
    rows = read_labels(other)
    for row in rows:
        row.update(label="box" if row["label"] else "none")
    write_labels(other, [{k: v for k, v in row.items() if k != "boxes"} for row in rows])
    labels, boxes = {"box": "square", "none": ""}, {"images/001.png": "2,3,20,30 1,1,9,9"}
    also = AlsoSpec(folder="../other", labels=labels, boxes=boxes, weight=0.5)
    spec = SPEC.model_copy(update={"also": (also,)})
    added = added_boxed(load_boxed(data, spec, 0), data, spec)
    seen = {item.sample.file.rpartition("/")[2]: len(item.boxes) for item in added}
    assert seen == {"001.png": 2, "003.png": 0, "007.png": 0, "011.png": 0}
    assert {item.weight for item in added} == {0.5}
    quiet = without_objects(data, spec, 0)
    assert [item.sample.file for item in quiet] == ["images/015.png"]
    wrong = also.model_copy(update={"boxes": {"images/012.png": "2,3,20,30"}})  # of split val
    spec = SPEC.model_copy(update={"also": (wrong,)})
    with pytest.raises(DataError, match=r"'images/012.png', which is not a training picture"):
        added_boxed(load_boxed(data, spec, 0), data, spec)


# --- changing pictures


def test_boxes_follow_their_objects() -> None:
    """Turned, mirrored, resized and moved discs stay in their boxes, which stay tight."""
    spec = AugmentSpec(rotate_degrees=40, scale=0.3, shift=0.1, flip="both")
    augment = build_box_augment(spec, 64, 64, 1)
    y, x = np.mgrid[:96, :96] + 0.5
    disc = (((y - 40) / 16) ** 2 + ((x - 60) / 10) ** 2 < 1).astype(np.float32)
    for _ in range(20):
        changed, boxes = augment(disc, np.array([[50.0, 24.0, 70.0, 56.0]]))
        rows, columns = np.nonzero(changed > 0.5)
        seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
        assert iou(boxes, seen)[0, 0] > 0.85


def test_one_seed_gives_one_sequence() -> None:
    spec = AugmentSpec(rotate_degrees=40, scale=0.3, flip="both", noise=0.1)
    canvas, boxes = (
        np.random.default_rng(0).random((96, 96), np.float32),
        np.array([[9.0, 9, 40, 50]]),
    )
    first, second = (build_box_augment(spec, 64, 64, 3) for _ in range(2))
    for _ in range(3):
        for one, other in zip(first(canvas, boxes), second(canvas, boxes), strict=True):
            np.testing.assert_array_equal(one, other)


def head() -> np.ndarray:
    y, x = np.mgrid[:128, :128] + 0.5
    return (0.4 * ((((y - 64) / 58) ** 2 + ((x - 64) / 46) ** 2) < 1)).astype(np.float32)


def test_drawn_lesions_lie_in_their_boxes() -> None:
    generator = np.random.default_rng(2)
    canvas = head()
    tissue = tissue_of(canvas)
    assert 0.2 < tissue.mean() < 0.45
    for _ in range(10):
        changed, boxes = draw_lesion(generator, canvas, tissue)
        assert changed.min() >= 0.0
        assert changed.max() <= 1.0
        for x_min, y_min, x_max, y_max in boxes.astype(int):
            strong = np.abs(changed - canvas) > 0.1
            assert strong[y_min:y_max, x_min:x_max].sum() > 0.5 * strong.sum()


def test_borrowed_lesion_is_where_its_box_says() -> None:
    donor = head()
    y, x = np.mgrid[:128, :128] + 0.5
    donor[((y - 60) / 12) ** 2 + ((x - 70) / 8) ** 2 < 1] = 1.0
    canvas = head()
    found = borrow_lesion(
        np.random.default_rng(4),
        canvas,
        tissue_of(canvas),
        donor,
        np.array([62.0, 48.0, 78.0, 72.0]),
    )
    rows, columns = np.nonzero(found[0] > 0.7)
    seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
    assert iou(found[1], seen)[0, 0] > 0.75


def test_nothing_is_put_into_an_empty_picture() -> None:
    black = np.zeros((64, 64), np.float32)
    for boxes in (
        draw_lesion(np.random.default_rng(0), black, tissue_of(black))[1],
        borrow_lesion(
            np.random.default_rng(0), black, tissue_of(black), black, np.array([1.0, 1, 30, 30])
        )[1],
    ):
        assert boxes.shape == (0, 4)


# --- the loss


def test_places_stand_for_the_smallest_box() -> None:
    points = torch.tensor([[4.0, 4.0], [12.0, 4.0], [20.0, 4.0], [28.0, 4.0], [60.0, 4.0]])
    outer, inner = [0.0, -20.0, 56.0, 28.0], [0.0, 0.0, 8.0, 8.0]
    found = assign(torch.tensor([inner, outer]), points)
    assert found.tolist() == [0, BETWEEN, 1, 1, NOTHING]
    assert assign(torch.zeros(0, 4), points).tolist() == [NOTHING] * 5


@pytest.mark.parametrize("name", ["mobilenetv2-detector", "pvt-v2-b0-detector"])
def test_detectors_learn(name: str) -> None:
    """One picture is enough to see that the loss leads to its box."""
    recipe = Recipe.model_validate(detection_values(network={"name": name}, start_weights=None))
    torch.manual_seed(1)
    network = build_network(recipe.network_ref, recipe.input).eval()  # norms as they are
    picture = torch.zeros(1, 3, SIDE, SIDE)
    truth = torch.tensor([[20.0, 8.0, 52.0, 40.0]])
    picture[:, :, 8:40, 20:52] = 1.0
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(25):
        loss = detection_loss(*network(picture), truth=[truth], channels=[0], height=SIDE)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    logits, boxes, _ = network(picture)
    best = boxes[0, logits[0, :, 0].argmax()].detach().double().numpy()
    assert iou(best[np.newaxis], truth.double().numpy())[0, 0] > 0.6


# --- the figures


def answer(
    truth: list[list[float]], found: list[tuple[list[float], float]], **more: str
) -> BoxAnswer:
    boxes = np.array([box for box, _ in found], np.float64).reshape(-1, 4)
    scores = np.array([score for _, score in found], np.float64)
    return BoxAnswer(
        np.array(truth, np.float64).reshape(-1, 4),
        boxes,
        scores,
        scores >= 0.5,
        more.get("group", ""),
        more.get("source", ""),
    )


SQUARE, HALF, FAR = [0.0, 0, 10, 10], [0.0, 0, 10, 5], [50.0, 50, 60, 60]


def test_each_true_box_is_found_once() -> None:
    given = answer([SQUARE], [(SQUARE, 0.9), (SQUARE, 0.8), (FAR, 0.7)])
    assert right_boxes(given).tolist() == [True, False, False]


def test_overlap_is_that_of_reported_boxes() -> None:
    given = answer([SQUARE, FAR], [(HALF, 0.9), (SQUARE, 0.3)])
    assert best_overlaps(given).tolist() == [0.5, 0.0]


def test_figures_of_boxes() -> None:
    answers = [
        answer([SQUARE, FAR], [(SQUARE, 0.9), ([30.0, 0, 40, 10], 0.8)], group="a", source="s"),
        answer([SQUARE], [(HALF, 0.7)], group="b", source="s"),
        answer([], [(FAR, 0.6)], group="c"),
        answer([], [(FAR, 0.2)], group="d"),
    ]
    figures = box_figures(answers)
    assert figures["mean_iou"] == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert figures["largest_iou"] == pytest.approx((1.0 + 0.5) / 2)
    assert figures["precision"] == pytest.approx(2 / 4)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert figures["specificity"] == pytest.approx(1 / 2)
    record = evaluate_boxes({"square": answers})
    assert record["n"] == 4
    assert record["metrics"]["mean_iou"]["value"] == 0.5
    low, high = record["metrics"]["recall"]["ci95"]
    assert low < 2 / 3 < high
    assert record["per_class"]["square"]["n"] == 3
    assert record["per_source"]["s"]["n"] == 2
    json.dumps(record, allow_nan=False)


def test_specificity_needs_pictures_with_nothing_to_find() -> None:
    record = evaluate_boxes({"square": [answer([SQUARE], [(SQUARE, 0.9)])]})
    assert record["metrics"]["specificity"]["value"] is None
    assert record["metrics"]["ap50"]["value"] == 1.0


def test_average_precision_is_cocos() -> None:
    """MONAI's implementation is the reference."""
    from monai.apps.detection.metrics.coco import COCOMetric
    from monai.apps.detection.metrics.matching import matching_batch
    from monai.data.box_utils import box_iou

    generator = np.random.default_rng(8)
    answers = []
    for _ in range(30):
        corner = generator.uniform(0, 60, (3, 2))
        truth = np.concatenate([corner, corner + generator.uniform(15, 30, (3, 2))], axis=1)
        moved = np.concatenate([truth + generator.normal(0, 3, (3, 4)), truth[::-1] + 40])
        scores = np.sort(generator.random(6))[::-1]
        answers.append(
            BoxAnswer(truth, moved[generator.permutation(6)], scores, scores > 0.5, "", "")
        )
    metric = COCOMetric(classes=["square"], iou_list=[0.5], max_detection=[100])
    matched = matching_batch(
        iou_fn=lambda one, other: box_iou(one, other),
        iou_thresholds=metric.iou_thresholds,
        pred_boxes=[item.boxes for item in answers],
        pred_classes=[np.zeros(6, int) for _ in answers],
        pred_scores=[item.scores for item in answers],
        gt_boxes=[item.truth for item in answers],
        gt_classes=[np.zeros(3, int) for _ in answers],
    )
    expected = metric(matched)[0]["AP_IoU_0.50_MaxDet_100"]
    assert 0.2 < expected < 0.95
    assert box_figures(answers)["ap50"] == pytest.approx(expected, abs=0.02)


# --- the whole way


def test_training_gives_a_folder_that_verifies(cli: Cli, tmp_path: Path, squares: Path) -> None:
    values = detection_values()
    values["data"]["also"] = [{"folder": "../data", "labels": {"square": "square", "": ""}}]
    values["augment"] |= {"borrowed": 0.3, "drawn": 0.3}
    values["schedule"] |= {"epochs": 3, "batch_size": 6, "learning_rate": 3e-3}
    recipe = write_recipe(tmp_path / "squares.yaml", values)
    models = tmp_path / "models"
    done = cli("train", recipe, "--data", squares, "--out", models, *QUICK)
    assert done.status == 0, done.err
    record = json.loads((models / "squares/metrics.json").read_text())
    assert {"mean_iou", "ap50", "precision", "recall", "f1"} <= set(record["metrics"])
    assert record["how"]["pictures"]["val"] == {"square": 3, "nothing to find": 2}
    assert (models / "squares/curves.png").stat().st_size > 5000
    card = (models / "squares/MODEL_CARD.md").read_text()
    assert "mean iou" in card.lower()
    again = cli("models", "evaluate", "squares", "--models", models, "--data", squares, "--json")
    assert again.status == 0, again.err
    assert json.loads(again.out)["metrics"] == record["metrics"]
    image = read_image(squares / "images/000.png")
    assert image.rows == SIDE


def test_recipe_of_boxes_is_checked(tmp_path: Path) -> None:
    values = detection_values()
    values["data"]["also"] = [{"folder": "../other", "labels": {"box": "circle"}}]
    with pytest.raises(Exception, match="'circle' is not one of the classes square"):
        load_recipe(write_recipe(tmp_path / "squares.yaml", values))
