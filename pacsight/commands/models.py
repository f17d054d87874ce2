"""``pacsight models``: what is installed, is it unharmed, and how good is it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from inference.manifest import Manifest
from inference.registry import Registry, load_model, scan_models
from pacsight.commands.models_explain import explain_check
from pacsight.commands.models_gate import gate
from pacsight.commands.models_import import import_
from pacsight.commands.output import Json, print_json, print_table
from pacsight.commands.scoreboard import scoreboard
from pacsight.commands.training_progress import TerminalProgress
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings

app = typer.Typer(help="The installed models.", no_args_is_help=True)

app.command()(gate)
app.command("explain-check")(explain_check)
app.command()(scoreboard)
app.command("import")(import_)

ModelId = Annotated[str, typer.Argument(help="Model id: its folder's name.", metavar="ID")]
Models = Annotated[
    Path | None,
    typer.Option("--models", help="Folder of models; default: models_dir.", metavar="DIR"),
]


@app.command("list")
def list_(models: Models = None, json: Json = False) -> None:
    """List the models, and the folders that can't be used with the reason."""
    registry = scan_models(_folder(models))
    if json:
        print_json({"models": _usable(registry), "broken": _broken(registry)})
    else:
        columns = ("model", "version", "name", "takes", "findings")
        print_table(
            "Models", columns, [[row[name] for name in columns] for row in _usable(registry)]
        )
        for row in _broken(registry):
            typer.echo(f"{row['code']}: {row['message']}", err=True)
    if registry.broken:
        raise typer.Exit(1)


@app.command()
def show(model_id: ModelId, models: Models = None, json: Json = False) -> None:
    """Show what one model is, takes and says."""
    manifest = load_model(_existing(models, model_id)).manifest
    values = manifest.model_dump(mode="json")
    if json:
        print_json(values)
        return
    rows = [[key, value] for key, value in _flat(values, "")]
    print_table(f"{manifest.name} {manifest.version}", ("", ""), rows)


@app.command()
def verify(
    model_id: Annotated[
        str | None, typer.Argument(help="Model id; default: every folder.", metavar="ID")
    ] = None,
    models: Models = None,
    json: Json = False,
) -> None:
    """Check folders: schema, digest, network, golden case, OpenVINO against torch."""
    from training.verify import verify_folder

    folder = _folder(models)
    chosen = [_existing(models, model_id)] if model_id is not None else _candidates(folder)
    if not chosen:
        raise NotFoundError(f"There is no model in {folder}.")
    results = {path.name: verify_folder(path) for path in chosen}
    if json:
        print_json(
            [
                {
                    "model": name,
                    "ok": all(check.is_passed for check in checks),
                    "checks": [
                        {"name": check.name, "ok": check.is_passed, "detail": check.detail}
                        for check in checks
                    ],
                }
                for name, checks in results.items()
            ]
        )
    else:
        rows = [
            [name, check.name, "ok" if check.is_passed else "FAILED", check.detail]
            for name, checks in results.items()
            for check in checks
        ]
        print_table("Verification", ("model", "check", "", "seen"), rows)
    if not all(check.is_passed for checks in results.values() for check in checks):
        raise typer.Exit(1)


@app.command()
def evaluate(
    model_id: ModelId,
    data: Annotated[Path, typer.Option(help="Folder with labels.csv.", metavar="DIR")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    page: Annotated[
        Path | None, typer.Option(help="Write an HTML page too.", metavar="FILE")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write figures, curves and card into the model's folder.")
    ] = False,
    models: Models = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled pictures, with 95 % intervals."""
    from training.evaluate import evaluate_model, packaged_recipe
    from training.page import Origin, write_page
    from training.refresh import refresh_checkpoint

    package = load_model(_existing(models, model_id))
    recipe = packaged_recipe(package)
    config = load_settings().inference_config()
    evaluation = evaluate_model(package, config, data, split, TerminalProgress(), recipe)
    if page is not None:
        command = f"pacsight models evaluate {model_id} --data {data.name} --split {split}"
        origin = Origin(data, f"{command} --page {page.name}", datetime.now(UTC).date())
        write_page(page, package, recipe, evaluation, origin)
    if save:
        refresh_checkpoint(package, recipe, evaluation)
    if json:
        print_json(evaluation.record)
    else:
        _print_result(evaluation.record)


def _folder(models: Path | None) -> Path:
    return models if models is not None else load_settings().models_dir


def _existing(models: Path | None, model_id: str) -> Path:
    """Return the folder of a model.

    Raises
    ------
    NotFoundError
        There is none of this name.
    """
    folder = _folder(models)
    candidates = {path.name: path for path in _candidates(folder)}
    if model_id not in candidates:
        known = ", ".join(candidates) or "none"
        raise NotFoundError(f"There is no model {model_id!r} in {folder}; there are: {known}.")
    return candidates[model_id]


def _candidates(folder: Path) -> list[Path]:
    registry = scan_models(folder)
    found = [model.folder for model in registry.models]
    return sorted(found + [broken.folder for broken in registry.broken])


def _usable(registry: Registry) -> list[dict[str, str]]:
    return [_row(model.manifest) for model in registry.models]


def _row(manifest: Manifest) -> dict[str, str]:
    takes = [modality for accepts in manifest.accepts for modality in accepts.modality]
    return {
        "model": manifest.id,
        "version": manifest.version,
        "name": manifest.name,
        "takes": ", ".join(dict.fromkeys(takes)),
        "findings": ", ".join(output.label for output in manifest.outputs),
        "digest": manifest.weights.sha256,
    }


def _broken(registry: Registry) -> list[dict[str, str]]:
    return [
        {"model": broken.folder.name, "code": broken.code, "message": broken.message}
        for broken in registry.broken
    ]


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    """Return the leaves of nested mappings and lists with their dotted keys."""
    if isinstance(value, Mapping):
        inner = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
        return [leaf for name, item in inner for leaf in _flat(item, name)]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [leaf for n, item in enumerate(value) for leaf in _flat(item, f"{key}[{n}]")]
    if isinstance(value, list):
        return [(key, ", ".join(str(item) or "(empty)" for item in value))]
    return [(key, "" if value is None else str(value))]


def _print_result(result: Mapping[str, Any]) -> None:
    title = f"{result['model']} {result['version']}: {result['n']} pictures of {result['split']}"
    print_table(title, ("figure", "value", "95 %"), _figure_rows("", result["metrics"]))
    for part in ("per_class", "per_source"):
        rows = [row for name, item in result[part].items() for row in _figure_rows(name, item)]
        if rows:
            print_table(part.replace("_", " ").capitalize(), ("figure", "value", "95 %"), rows)
    matrix = result.get("confusion_matrix")
    if matrix is None:
        return
    rows = [[name, *row] for name, row in zip(matrix["classes"], matrix["rows"], strict=True)]
    print_table("True class by reported class", ("", *matrix["classes"]), rows)


def _figure_rows(name: str, figures: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for key, figure in figures.items():
        label = f"{name} {key}".strip()
        if not isinstance(figure, Mapping):
            rows.append([label, str(figure), ""])
        elif figure["value"] is None:
            rows.append([label, "-", ""])
        else:
            low, high = figure["ci95"]
            rows.append([label, f"{figure['value']:.3f}", f"{low:.3f} to {high:.3f}"])
    return rows
