"""``pacsight route``: which models apply to files, which refuse, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.settings import load_settings

if TYPE_CHECKING:
    from inference.manifest import Manifest
    from pacsight.local_studies import LocalStudy


def route(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM, PNG, JPG files or folders.", exists=True)
    ],
    json: Json = False,
) -> None:
    """Tell for each study which models apply, and why the others don't."""
    from inference.registry import scan_models
    from pacsight.local_studies import collect_studies

    manifests = scan_models(load_settings().models_dir).manifests
    rows = [row for study in collect_studies(paths) for row in _rows(study, manifests)]
    if json:
        for row in rows:
            print_json(row)
    else:
        columns = ("input", "model", "applies", "code", "message")
        print_table("Routing", columns, [[row[name] for name in columns] for row in rows])
    if not any(row["applies"] for row in rows):
        raise typer.Exit(1)


def _rows(study: LocalStudy, manifests: Sequence[Manifest]) -> list[dict[str, object]]:
    from inference.routing import route as route_images

    if study.refusal is not None:
        return [_row(study.name, "", study.refusal.code, study.refusal.message)]
    return [
        _row(study.name, decision.model.model_id, "", "")
        if decision.refusal is None
        else _row(
            study.name, decision.model.model_id, decision.refusal.code, decision.refusal.message
        )
        for decision in route_images(study.facts, manifests)
    ]


def _row(name: str, model: str, code: str, message: str) -> dict[str, object]:
    return {"input": name, "model": model, "applies": not code, "code": code, "message": message}
