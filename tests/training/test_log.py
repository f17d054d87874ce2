"""The log of a training, as TensorBoard reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.errors import LogFolderError
from training.log import open_log


def read(path: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(path)).Reload()
    return {
        tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_epochs_can_be_read_while_training_goes_on(tmp_path: Path) -> None:
    with open_log(tmp_path / "log") as log:
        log.epoch(1, {"training/loss": 0.75, "validation/auc": float("nan")})
        assert read(tmp_path / "log") == {"training/loss": [(1, 0.75)]}
        log.epoch(2, {"training/loss": 0.5, "validation/auc": 0.875})
    assert read(tmp_path / "log") == {
        "training/loss": [(1, 0.75), (2, 0.5)],
        "validation/auc": [(2, 0.875)],
    }


def test_resumed_training_replaces_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        for number in (1, 2, 3):
            log.epoch(number, {"training/loss": float(number)})
    with open_log(tmp_path) as log:
        log.epoch(3, {"training/loss": 30.0})
    assert read(tmp_path) == {"training/loss": [(1, 1.0), (2, 2.0), (3, 30.0)]}


def test_recipe_is_shown_beside_the_curves(tmp_path: Path) -> None:
    with open_log(tmp_path, text="id: spots\nseed: 3") as log:
        log.epoch(1, {"training/loss": 0.5})
    events = EventAccumulator(str(tmp_path)).Reload()
    (text,) = events.Tensors("recipe/text_summary")
    assert text.tensor_proto.string_val[0] == b"    id: spots\n    seed: 3"


def test_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogFolderError, match="can't be written"):
        open_log(tmp_path / "file")
