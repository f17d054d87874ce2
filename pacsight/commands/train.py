"""``pacsight train``: a recipe and a data folder become a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacsight.commands.training_progress import TerminalProgress


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).", metavar="RECIPE")],
    data: Annotated[Path, typer.Option(help="Folder with labels.csv.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes: DIR/<id>.", metavar="DIR")],
    start_weights: Annotated[
        Path | None,
        typer.Option(help="Weights to start from: .npz or .safetensors.", metavar="FILE"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
    log: Annotated[
        Path | None, typer.Option(help="Folder for a TensorBoard log.", metavar="DIR")
    ] = None,
    fit_only: Annotated[
        bool,
        typer.Option(help="Leave the trained state; the same command elsewhere makes the model."),
    ] = False,
) -> None:
    """Train a model from a recipe; stopped, it resumes when asked for again."""
    from training.run import Request, train_checkpoint

    request = Request(recipe, data, out, start_weights, epochs, threads, log, fit_only)
    made = train_checkpoint(request, TerminalProgress())
    if fit_only:
        typer.echo(f"Trained; bring {made} beside the folder where the same command goes on.")
        return
    typer.echo(f"{made} is ready; see {made / 'MODEL_CARD.md'}.")
