"""``pacsight models gate``: which pictures a model refuses for how they look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.commands.training_progress import TerminalProgress
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings


def gate(
    model_id: Annotated[str, typer.Argument(help="Model id: its folder's name.", metavar="ID")],
    data: Annotated[
        Path, typer.Option(help="Folder with the model's own labels.csv.", metavar="DIR")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with other kinds of pictures, to refuse; may be repeated.", metavar="DIR"
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of models; default: models_dir.", metavar="DIR"),
    ] = None,
    json: Json = False,
) -> None:
    """Fit the gate that refuses empty, clipped, blurred and wrong kinds of pictures.

    The gate is fitted on the training pictures of DATA, and against those of the other folders,
    which must not show the same kind of picture. The validation pictures of all tell how many it
    refuses wrongly and rightly; the figures go into metrics.json and the model card.
    """
    from inference.manifest import load_manifest
    from training.gate import gate_data, other_kind
    from training.gate_record import record_gate, write_gate
    from training.recipe import RECIPE_NAME, load_recipe

    folder = (models if models is not None else load_settings().models_dir) / model_id
    if not folder.is_dir():
        raise NotFoundError(f"There is no model {model_id!r} in {folder.parent}.")
    load_manifest(folder)
    path = folder / RECIPE_NAME
    recipe = load_recipe(path) if path.is_file() else None
    progress = TerminalProgress()
    others = {
        other.resolve().name: other_kind(other, progress)
        for other in against or ()
        if other.resolve() != data.resolve()
    }
    seed = recipe.seed if recipe is not None else 1
    record = write_gate(folder, gate_data(data, recipe, others), progress, seed)
    record_gate(folder, record)
    if json:
        print_json({"model": model_id, **record})
    else:
        _print(model_id, record)


def _print(model_id: str, record: Mapping[str, Any]) -> None:
    rows = [_row("own pictures (wrongly)", record["n"], record["false_refusals"])]
    rows.append(_row("own, harmlessly changed (wrongly)", record["n"], record["changed"]))
    rows += [_row(f"own, {name}", record["n"], item) for name, item in record["damaged"].items()]
    rows += [_row(name, item["n"], item) for name, item in record["true_refusals"].items()]
    print_table(
        f"{model_id}: validation pictures refused", ("pictures", "n", "refused", "95 %"), rows
    )


def _row(name: str, count: int, figure: Mapping[str, Any]) -> list[str]:
    low, high = figure["ci95"]
    return [name, str(count), f"{figure['value']:.1%}", f"{low:.1%} to {high:.1%}"]
