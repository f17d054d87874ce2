"""The guide to importing says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inference.network_table import NETWORKS
from tests.training.conftest import Cli
from training.importing.draft import read_draft
from training.importing.errors import ImportingError
from training.importing.monai_bundle import NETWORKS_OF_BUNDLES
from training.importing.tensors import TORCH_SUFFIXES
from training.importing.twins import TWINS

PAGE = (Path(__file__).parents[2] / "docs" / "importing.md").read_text(encoding="utf-8")


def test_draft_of_the_guide_is_right(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "draft.yaml"
    path.write_text(blocks[0], encoding="utf-8")
    assert read_draft(path).manifest().id == "vessels-wnet"


def test_command_of_the_guide_is_understood(cli: Cli, tmp_path: Path) -> None:
    (line,) = re.findall(r"^    pacsight (.*)$", PAGE, re.MULTILINE)
    words = [str(tmp_path / word) if "." in word else word for word in line.split()]
    outcome = cli(*words, "--key", "model")
    assert outcome.status == 1
    assert outcome.err.startswith("IMPORT_DRAFT: The draft ")


@pytest.mark.parametrize("error", ImportingError.__subclasses__())
def test_every_code_is_explained(error: type[ImportingError]) -> None:
    assert f"| `{error.code}` |" in PAGE


def test_networks_and_files_of_the_guide_exist() -> None:
    named = {word for word in re.findall(r"`([\w-]+)`", PAGE) if word in NETWORKS}
    assert named >= {*TWINS, "wnet"}
    assert all(f"`{name}`" in PAGE for name in NETWORKS_OF_BUNDLES)
    assert all(suffix in PAGE for suffix in TORCH_SUFFIXES)
