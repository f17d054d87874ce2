"""One tiny training, through the command line, for all tests that need a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pacsight.cli import main
from tests.training.factories import recipe_values, write_data, write_recipe

START_WEIGHTS = Path(__file__).parents[2] / "checkpoints/cxr-pneumonia/weights.safetensors"
"""Features that know edges and spots, so that two epochs are enough to learn."""

QUICK = ("--start-weights", START_WEIGHTS, "--threads", "1")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and lose much where other work is running."""
    torch.set_num_threads(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """``cli("models", "verify")`` runs the program in this process."""

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pacsight", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capfd.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("spots-data") / "data")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A folder of models with one, trained in seconds. Don't change it."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder / "spots.yaml", recipe_values())
    arguments = ["train", recipe, "--data", data_dir, "--out", folder / "models", *QUICK]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pacsight", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return folder / "models"
