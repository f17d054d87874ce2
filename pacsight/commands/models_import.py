"""``pacsight models import``: weights of others become a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pacsight.commands.training_progress import TerminalProgress
from pacsight.settings import load_settings


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="PyTorch (.pth, .pt), .safetensors, .npz, .onnx, or a MONAI bundle's folder.",
            metavar="FILE",
        ),
    ],
    manifest: Annotated[
        Path, typer.Option(help="Draft: a manifest without weights (YAML).", metavar="DRAFT")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the folder goes: DIR/<id>; default: models_dir.", metavar="DIR"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Which set of tensors, if the file has several.")
    ] = None,
) -> None:
    """Make a model folder of weights of your own; it verifies, or one sentence says why not."""
    from training.importing.run import ImportRequest, import_model

    folder = out if out is not None else load_settings().models_dir
    made = import_model(ImportRequest(source, manifest, folder, key), TerminalProgress())
    typer.echo(f"{made} is ready, not evaluated; see {made / 'MODEL_CARD.md'}.")
