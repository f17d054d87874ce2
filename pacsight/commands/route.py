"""``pacsight route``: which models apply to files, which refuse, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.settings import load_settings

if TYPE_CHECKING:
    from inference.manifest import Manifest
    from ledger.domain import SeriesAnswer
    from pacsight.local_studies import LocalStudy


SERIES_COLUMNS = ("input", "model", "series", "slices", "answer", "message")


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
        if several := _series_rows(rows):
            print_table("Series", SERIES_COLUMNS, several)
    if not any(row["applies"] for row in rows):
        raise typer.Exit(1)


def _rows(study: LocalStudy, manifests: Sequence[Manifest]) -> list[dict[str, Any]]:
    from inference.routing import route as route_images

    if study.refusal is not None:
        return [_row(study.name, "", study.refusal.code, study.refusal.message)]
    rows = []
    for decision in route_images(study.facts, manifests):
        model, refusal = decision.model.model_id, decision.refusal
        if refusal is None:
            images = len(decision.sop_instance_uids)
            rows.append(_row(study.name, model, "", decision.reason, images))
        else:
            rows.append(_row(study.name, model, refusal.code, refusal.message))
        rows[-1]["series"] = [_series(answer) for answer in decision.series]
    return rows


def _row(name: str, model: str, code: str, message: str, images: int = 0) -> dict[str, Any]:
    return {
        "input": name,
        "model": model,
        "applies": not code,
        "code": code,
        "message": message,
        "images": images,
        "series": [],
    }


def _series(answer: SeriesAnswer) -> dict[str, object]:
    refusal = answer.refusal
    return {
        "number": answer.series_number,
        "part": answer.part,
        "slices": answer.images,
        "chosen": refusal is None,
        "code": "" if refusal is None else refusal.code,
        "message": "" if refusal is None else refusal.message,
    }


def _series_rows(rows: list[dict[str, Any]]) -> list[list[object]]:
    """Return table rows of what the models that take one series say about each."""
    return [
        [
            row["input"],
            row["model"],
            f"{one['number']} {one['part']}".strip(),
            one["slices"],
            "chosen" if one["chosen"] else one["code"],
            one["message"],
        ]
        for row in rows
        for one in row["series"]
    ]
