"""``pacsight models scoreboard``: every model with its figure, size and time on one page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from inference.registry import scan_models
from pacsight.commands.output import Json, print_json
from pacsight.commands.training_progress import TerminalProgress
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings


def scoreboard(
    write: Annotated[
        bool, typer.Option("--write", help="Write README.md into the folder of models.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the time of models that have none yet.")
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option("--models", help="Folder of models; default: models_dir.", metavar="DIR"),
    ] = None,
    json: Json = False,
) -> None:
    """Show every model's figure against its aim, size, time and licence."""
    from training.scoreboard import SCOREBOARD_NAME, scoreboard_text, scores_of
    from training.speed import measure_speed, read_speed, write_speed

    folder = models if models is not None else load_settings().models_dir
    registry = scan_models(folder)
    if not registry.models:
        raise NotFoundError(f"There is no usable model in {folder}.")
    if measure:
        write_speed(folder, measure_speed(registry, TerminalProgress(), read_speed(folder)))
    text = scoreboard_text(folder, registry)
    if write:
        (folder / SCOREBOARD_NAME).write_text(text + "\n", encoding="utf-8")
    if json:
        print_json([asdict(score) for score in scores_of(folder, registry)])
    elif not write:
        typer.echo(text)
