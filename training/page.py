"""An evaluation as one HTML file: every figure with its interval, curves, limits, provenance.

It needs nothing beside itself (no scripts, no fonts, no pictures from elsewhere), follows the
reader's light or dark setting, and prints on A4.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from inference.manifest import Manifest
from inference.registry import ModelPackage
from inference.weights import sha256_of
from training.aims import comparison_of
from training.data import LABELS_NAME
from training.errors import PageError
from training.figures import Figure, figure_of, title_of
from training.recipe import Recipe
from training.task import Epoch, Evaluation
from training.verify import METRICS_NAME

_NOT_SHOWN = {"how", "thresholds", "calibration", "confusion_matrix"}


@dataclass(frozen=True, slots=True)
class Origin:
    """What the page says about how it was made."""

    data: Path
    """The folder of pictures."""
    command: str
    made_on: date


def write_page(
    path: Path, package: ModelPackage, recipe: Recipe, evaluation: Evaluation, origin: Origin
) -> None:
    """Write the page.

    Raises
    ------
    PageError
        The file can't be written.
    """
    recorded = recorded_figures(package.folder)
    manifest = package.manifest
    text = (
        _environment()
        .get_template("evaluation.html.jinja")
        .render(
            **_about(manifest, evaluation.record, origin),
            **_figures(evaluation.record, recorded),
            aim=comparison_of(manifest.id, manifest.pipeline, evaluation.record["metrics"]),
            curves=_curves(evaluation, recorded),
            also=list(_also(evaluation.record, recorded)),
            facts=list(_facts(manifest)),
            data=recipe.report.card.data,
            limits=recipe.report.card.limits,
            provenance=list(_provenance(package, recorded, origin)),
        )
    )
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise PageError(
            f"The page {path} can't be written ({error.strerror}); choose another file."
        ) from error


def recorded_figures(folder: Path) -> dict[str, Any]:
    """Return the content of a model's ``metrics.json``; empty where there is none to read."""
    try:
        found = json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recorded_history(recorded: Mapping[str, Any]) -> list[Epoch]:
    """Return the epochs of ``metrics.json``."""
    return [Epoch.from_json(epoch) for epoch in recorded.get("how", {}).get("history", ())]


def _environment() -> Environment:
    return Environment(loader=PackageLoader("training"), autoescape=True, undefined=StrictUndefined)


def _about(manifest: Manifest, record: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    return {
        "model": manifest.id,
        "version": manifest.version,
        "name": manifest.name,
        "research_statement": manifest.research_statement,
        "intended_use": manifest.intended_use.rstrip("."),
        "split": record["split"],
        "n": record["n"],
        "unit": "volumes" if manifest.input.unit == "series" else "pictures",
        "folder": origin.data.resolve().name,
        "made_on": origin.made_on.isoformat(),
        "command": origin.command,
    }


def _figures(record: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    figures = [figure_of(name, item) for name, item in record["metrics"].items()]
    by_class = _table(record.get("per_class", {}))
    of_classes = [figure for _, row in by_class["rows"] for figure in row]
    return {
        "figures": figures,
        "per_class": by_class,
        "per_source": _table(record.get("per_source", {})),
        "matrices": list(_matrices(record.get("confusion_matrix"))),
        "perfect": any(figure.is_perfect for figure in (*figures, *of_classes)),
        "comparison": _comparison(record, recorded),
    }


def _comparison(record: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """Say whether these are the figures that the model came with."""
    if recorded.get("split") != record["split"] or "metrics" not in recorded:
        return ""
    if record["metrics"] == recorded["metrics"] and record["n"] == recorded["n"]:
        return f"They are exactly those recorded in the model's {METRICS_NAME}."
    return f"They differ from those recorded in the model's {METRICS_NAME}."


def _table(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one row for each part; a figure that a part lacks is an empty cell."""
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    rows = [
        (part, [figure_of(name, items.get(name, "")) for name in names])
        for part, items in parts.items()
    ]
    return {"columns": [title_of(name) for name in names], "rows": rows}


def _matrices(matrix: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    if not matrix or "rows" not in matrix:
        return
    rows = [_shaded(name, row) for name, row in zip(matrix["classes"], matrix["rows"], strict=True)]
    yield {"title": "Confusion matrix", "classes": matrix["classes"], "rows": rows}


def _shaded(name: str, row: list[int]) -> tuple[str, list[dict[str, int]]]:
    """Return the counts of one true class, shaded by their share of it."""
    total = max(1, sum(row))
    return name, [{"count": count, "percent": round(100 * count / total)} for count in row]


def _curves(evaluation: Evaluation, recorded: Mapping[str, Any]) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        evaluation.draw(path, recorded_history(recorded))
        return base64.b64encode(path.read_bytes()).decode("ascii")


def _also(record: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what ``metrics.json`` holds beyond these figures: explanations, the gate and so on."""
    for name, item in recorded.items():
        if name not in record and name not in _NOT_SHOWN:
            yield from _leaves(title_of(name), item)


def _leaves(title: str, item: Any) -> Iterator[tuple[str, str]]:
    if isinstance(item, Mapping) and "value" not in item:
        for name, inner in item.items():
            yield from _leaves(f"{title}: {title_of(name).lower()}", inner)
    elif isinstance(item, Mapping | int | float | str):
        figure: Figure = figure_of(title, item)
        yield title, f"{figure.text} {figure.interval}".strip()


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield (
        "Reports",
        "; ".join(
            f"{output.label} ({output.concept.scheme} {output.concept.value}), "
            f"threshold {output.threshold:g}"
            for output in manifest.outputs
        ),
    )
    shape = " x ".join(str(number) for number in manifest.input.shape)
    yield "Network", f"{manifest.network.name}, input {shape}"
    yield "Licence", manifest.licence
    yield (
        "Trained on",
        "; ".join(f"{item.name} ({item.licence})" for item in manifest.training_data),
    )


def _provenance(
    package: ModelPackage, recorded: Mapping[str, Any], origin: Origin
) -> Iterator[tuple[str, str]]:
    yield "Weights, sha256", package.manifest.weights.sha256
    labels = origin.data / LABELS_NAME
    if labels.is_file():
        yield f"{LABELS_NAME}, sha256", sha256_of(labels)
    how = recorded.get("how", {})
    for key, title in (("data_sha256", "Data of the training, sha256"), ("command", "Trained by")):
        if how.get(key):
            yield title, how[key]
    yield "Pacsight", version("pacsight")
