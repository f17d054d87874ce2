"""``pacsight models explain-check``: whether heatmaps show what an answer depends on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.commands.training_progress import TerminalProgress
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings


def explain_check(
    model_id: Annotated[str, typer.Argument(help="Model id: its folder's name.", metavar="ID")],
    data: Annotated[
        Path, typer.Option(help="Folder with the model's own labels.csv.", metavar="DIR")
    ],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    boxes: Annotated[
        Path | None,
        typer.Option(help="Folder whose labels.csv has boxes round the disease.", metavar="DIR"),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write figures and card into the model's folder.")
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of models; default: models_dir.", metavar="DIR"),
    ] = None,
    json: Json = False,
) -> None:
    """Check heatmaps: how much depends on their hottest part, and does it lie in boxes.

    The hottest part of each picture with a positive finding is blurred away; its probability should
    fall more than when the same is done elsewhere. With boxes that people have drawn, the hottest
    pixel should lie in one of them more often than a random pixel would.
    """
    from inference.registry import load_model
    from training.evaluate import packaged_recipe
    from training.explanations import check_explanations, save_explanation

    folder = (models if models is not None else load_settings().models_dir) / model_id
    if not folder.is_dir():
        raise NotFoundError(f"There is no model {model_id!r} in {folder.parent}.")
    package = load_model(folder)
    recipe = packaged_recipe(package)
    config = load_settings().inference_config()
    record = check_explanations(package, recipe, config, data, split, boxes, TerminalProgress())
    if save:
        save_explanation(package, recipe, record)
    if json:
        print_json({"model": model_id, **record})
    else:
        _print(model_id, record)


def _print(model_id: str, record: Mapping[str, Any]) -> None:
    rows = []
    names = {"hits": "hottest pixel in a box", "heat": "heat in boxes"}
    pointing = record.get("pointing_game", {})
    rows += [_row(text, pointing["n"], pointing[name]) for name, text in names.items() if pointing]
    if pointing:
        rows.append(["random pixel in a box", str(pointing["n"]), f"{pointing['chance']:.3f}", ""])
    lost = record["deletion"]
    rows.append(_row("probability lost with the hottest part", lost["n"], lost["mean_lost"]))
    rows.append(_row("probability lost elsewhere", lost["n"], lost["mean_lost_elsewhere"]))
    print_table(f"{model_id}: heatmaps", ("measure", "pictures", "value", "95 %"), rows)


def _row(name: str, count: int, figure: Mapping[str, Any]) -> list[str]:
    low, high = figure["ci95"]
    return [name, str(count), f"{figure['value']:.3f}", f"{low:.3f} to {high:.3f}"]
