"""The guides' commands exist with their options, and those of the training guide run as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from pacsight.cli import app
from tests.training.conftest import Cli
from tests.training.factories import recipe_values, write_data, write_recipe

REPOSITORY = Path(__file__).parents[2]
GUIDES = sorted((REPOSITORY / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path, kind: str = "") -> list[list[str]]:
    """The commands in a page's fenced blocks, of one kind if it is given."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [
        line.strip()
        for name, text in blocks
        if not kind or name == kind
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("pacsight ")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_commands_in_the_guides_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        command = get_command(app)
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]  # a Group
        assert not getattr(command, "commands", {}), f"{words} names no command"
        known = {option for parameter in command.params for option in parameter.opts}
        named = {word.strip("[]") for word in rest if word.strip("[").startswith("--")}
        assert named <= known, words


def test_commands_of_the_training_guide_run_one_after_the_other(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "data")
    values = {**recipe_values(), "id": "my-model"}
    values["schedule"]["epochs"] = 1
    write_recipe(tmp_path / "my-recipe.yaml", values)
    (tmp_path / "checkpoints").symlink_to(REPOSITORY / "checkpoints")
    monkeypatch.chdir(tmp_path)
    lines = commands(REPOSITORY / "docs" / "training.md", "console")
    assert len(lines) == 4
    for words in lines:
        outcome = cli(*words)
        assert outcome.status == 0, (words, outcome.err)
    assert (tmp_path / "my-model.html").read_text().startswith("<!doctype html>")
    assert list((tmp_path / "log").rglob("events.*"))
    assert "| [my-model](my-model/MODEL_CARD.md) | Spots on noise |" in outcome.out


def test_networks_and_recipes_of_the_guide_are_those_there_are() -> None:
    from inference.network_table import NETWORKS

    page = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    trained = {name for name in NETWORKS if not name.startswith(("monai-", "onnx"))}
    listed = page.split("\nNetworks: ")[1].split("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", listed)) == trained
    public = {
        path.stem
        for path in (REPOSITORY / "training" / "recipes").glob("*.yaml")
        if re.search(r"^  layout:", path.read_text(), re.MULTILINE)
    }
    assert public == set(re.findall(r"^\| `([a-z-]+)` \| .* \| `", page, re.MULTILINE)) & public
