"""The page of an evaluation, and figures of a shipped model written anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from inference.registry import load_model
from tests.training.conftest import Cli
from training.evaluate import packaged_recipe
from training.figures import figure_of, with_interval
from training.page import Origin, write_page
from training.task import Epoch, Evaluation

PNG = b"\x89PNG\r\n\x1a\n"


SHARE = {"value": 0.02, "ci95": [0.0, 0.05]}
GATE = {
    "n": 12,
    "false_refusals": SHARE,
    "codes": {},
    "changed": SHARE,
    "damaged": {"blurred": SHARE},
    "true_refusals": {},
}


class Reader(HTMLParser):
    """Collects rows of tables and everything that a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._in_cell = True
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell and data.strip():
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()

    def of(self, name: str) -> list[list[str]]:
        """The cells after `name`, of every row that begins so."""
        return [row[1:] for row in self.rows if row[0] == name]


def draw(path: Path, history: object) -> None:
    del history
    path.write_bytes(PNG)


def page_of(models_dir: Path, tmp_path: Path, record: dict[str, Any]) -> str:
    package = load_model(models_dir / "spots")
    origin = Origin(tmp_path, "pacsight models evaluate spots", date(2026, 1, 2))
    evaluation = Evaluation({"split": "val", "n": 3, **record}, draw)
    write_page(tmp_path / "page.html", package, packaged_recipe(package), evaluation, origin)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_page_shows_every_figure_with_its_interval(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    arguments = ["--models", models_dir, "--data", data_dir, "--page", page, "--json"]
    outcome = cli("models", "evaluate", "spots", *arguments)
    assert outcome.status == 0, outcome.err
    record = json.loads(outcome.out)
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    for name, item in record["metrics"].items():
        figure = figure_of(name, item)
        title = f"{figure.name} ({figure.note})" if figure.note else figure.name
        assert reader.of(title)[0][0] == f"{figure.text} {figure.interval}"
    for part in ("per_class", "per_source"):
        for name, items in record[part].items():
            cells = [figure_of(key, item) for key, item in items.items()]
            assert [f"{cell.text} {cell.interval}".strip() for cell in cells] in reader.of(name)
    matrix = record["confusion_matrix"]
    for name, row in zip(matrix["classes"], matrix["rows"], strict=True):
        assert [str(count) for count in row] in reader.of(name)
    assert "exactly those recorded" in text
    assert reader.of("Weights, sha256") == [[load_model(models_dir / "spots").identity.digest]]
    assert "pacsight models evaluate spots --data data --split val --page page.html" in text


def test_page_is_one_file_without_scripts(models_dir: Path, tmp_path: Path) -> None:
    reader = Reader(page_of(models_dir, tmp_path, {"metrics": {}}))
    assert reader.fetched == ["data:image/png;base64,iVBORw0KGgo="]
    assert not reader.tags & {"script", "link", "iframe"}


def test_page_serves_any_kind_of_model(models_dir: Path, tmp_path: Path) -> None:
    dice = {"value": 0.8123, "ci95": [0.75, 0.86]}
    record = {
        "metrics": {"dice": dice, "volume_error": {"value": 1.5, "ci95": [0.5, 2.25]}},
        "per_class": {"left atrium": {"n": 3, "dice": dice}, "aorta": {"n": 0}},
        "per_source": {"a<b": {"n": 3, "dice": {"value": None, "ci95": None}}},
    }
    text = page_of(models_dir, tmp_path, record)
    reader = Reader(text)
    assert reader.of("Dice")[0][0] == "0.812 0.750 to 0.860"
    assert reader.of("Volume error (lower is better)")[0][0] == "1.500 0.500 to 2.250"
    assert reader.of("left atrium") == [["3", "0.812 0.750 to 0.860"]]
    assert reader.of("aorta") == [["0", "not defined"]]
    assert reader.of("a<b") == [["3", "not defined"]]
    assert text.count('class="track"') == 1, "an error above 1 has no place on a scale from 0 to 1"
    assert "They differ from those recorded" in text


def test_page_says_what_perfect_figures_hide(models_dir: Path, tmp_path: Path) -> None:
    recall = {"recall": {"value": 1.0, "ci95": [1.0, 1.0]}}
    perfect = {"metrics": {}, "per_class": {"spot": recall}}
    doubtful = {"metrics": {"recall": {"value": 1.0, "ci95": [0.9, 1.0]}}}
    assert "about 1 - 3/n" in page_of(models_dir, tmp_path, perfect)
    assert "about 1 - 3/n" not in page_of(models_dir, tmp_path, doubtful)


def test_page_tells_what_else_the_model_records(models_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "models"
    shutil.copytree(models_dir, copy)
    path = copy / "spots" / "metrics.json"
    record = json.loads(path.read_text())
    refusals = {"value": 0.02, "ci95": [0.0, 0.05]}
    path.write_text(json.dumps({**record, "gate": {"n": 12, "false_refusals": refusals}}))
    reader = Reader(page_of(copy, tmp_path, {"metrics": {}}))
    assert reader.of("Gate: n") == [["12"]]
    assert reader.of("Gate: false refusals") == [["0.020 0.000 to 0.050"]]


def test_page_that_cannot_be_written_is_one_sentence(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    page = tmp_path / "nowhere" / "page.html"
    arguments = ["--models", models_dir, "--data", data_dir, "--page", page]
    outcome = cli("models", "evaluate", "spots", *arguments)
    assert outcome.status == 1
    assert outcome.err.startswith(f"PAGE: The page {page} can't be written")


def test_saved_evaluation_writes_the_folder_anew(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(models_dir, copy)
    folder = copy / "spots"
    before = json.loads((folder / "metrics.json").read_text())
    old = {**before, "metrics": {"accuracy": {"value": 0.1, "ci95": [0.0, 0.2]}}, "gate": GATE}
    (folder / "metrics.json").write_text(json.dumps(old))
    (folder / "MODEL_CARD.md").write_text("outdated")
    (folder / "curves.png").write_bytes(b"outdated")
    outcome = cli("models", "evaluate", "spots", "--models", copy, "--data", data_dir, "--save")
    assert outcome.status == 0, outcome.err
    after = json.loads((folder / "metrics.json").read_text())
    assert after == {**before, "gate": GATE}
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.startswith("# Spots on noise (spots 0.1.0)")
    assert "## What it refuses" in card, "the gate's section is written again too"
    assert (folder / "curves.png").read_bytes().startswith(PNG)
    assert (folder / "weights.safetensors").read_bytes() == (
        models_dir / "spots" / "weights.safetensors"
    ).read_bytes()
    assert [path.name for path in copy.iterdir()] == ["spots"]


def test_evaluation_of_other_pictures_is_not_saved(
    cli: Cli, models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(models_dir, copy)
    before = (copy / "spots" / "metrics.json").read_bytes()
    arguments = ["--models", copy, "--data", data_dir, "--split", "train", "--save"]
    outcome = cli("models", "evaluate", "spots", *arguments)
    assert outcome.status == 1
    assert "RECORD_MISMATCH: The record of 'spots' has split val" in outcome.err
    assert (copy / "spots" / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({"value": 0.5, "ci95": [0.25, 0.75]}, "0.500 (0.250 to 0.750)"),
        ({"value": None, "ci95": None}, "-"),
        ({"value": 0.5, "ci95": None}, "0.500"),
    ],
)
def test_figures_are_written_in_one_way(item: dict[str, Any], shown: str) -> None:
    assert with_interval(item) == shown


def test_history_of_a_model_is_drawn_again(models_dir: Path, tmp_path: Path) -> None:
    seen: list[Epoch] = []

    def draw_history(path: Path, history: Sequence[Epoch]) -> None:
        seen.extend(history)
        path.write_bytes(PNG)

    package = load_model(models_dir / "spots")
    evaluation = Evaluation({"split": "val", "n": 3, "metrics": {}}, draw_history)
    origin = Origin(tmp_path, "", date(2026, 1, 2))
    write_page(tmp_path / "page.html", package, packaged_recipe(package), evaluation, origin)
    assert [epoch.number for epoch in seen] == [1, 2]
