"""``checkpoints/README.md``: every model, its data, its figure, its size and time, on one page.

Written from the models' own files, so that nothing on it can differ from what ships.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.registry import ModelPackage, Registry
from training.aims import Aim, aims_of
from training.figures import number, title_of, with_interval
from training.page import recorded_figures
from training.recipe import Recipe, load_recipe
from training.speed import REFERENCE, Speed, read_speed

SCOREBOARD_NAME = "README.md"
RECIPES = Path(__file__).parent / "recipes"

_HEAD = """\
# The models

Written by `pacsight models scoreboard --write`; don't edit it. Each folder is a model: weights,
manifest, figures, recipe, and a card with its limits, which is what to read before using it. All
are for research use only.

- **Figures** are of validation pictures, with 95 % bootstrap intervals over whole patients where
  the data tell them. They flatter: epoch, calibration and threshold were chosen on these pictures,
  and they are few.
- **Paper**: what the paper of the task reports, on other pictures and splits. A yardstick only.
- **Time**: CPU time of one image or volume, explanation included, as a multiple of
  `{reference}`'s{measured}.
"""
_COLUMNS = (
    "model", "task", "network", "data", "n", "figure on validation", "paper", "aim", "MB", "time",
    "licence of the weights",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """One row of the scoreboard."""

    model: str
    task: str
    network: str
    data: str
    n: int | None
    aims: tuple[Aim, ...]
    metrics: dict[str, Any]
    megabytes: float
    relative_time: float | None
    licence: str


def scores_of(models: Path, registry: Registry) -> tuple[Score, ...]:
    """Return a row for each usable model of a folder."""
    speed = read_speed(models)
    return tuple(_score(package, speed) for package in registry.models)


def scoreboard_text(models: Path, registry: Registry) -> str:
    """Return the page, Markdown."""
    scores = scores_of(models, registry)
    speed = read_speed(models)
    measured = f" ({speed.reference_ms:g} ms of one core of {speed.machine})" if speed else ""
    parts = [_HEAD.format(reference=speed.reference if speed else REFERENCE, measured=measured)]
    parts.append(_table(_COLUMNS, [_row(score) for score in scores]))
    parts.extend(_broken(registry))
    parts.extend(_missed(scores))
    parts.extend(_without_data({score.model for score in scores}))
    return "\n".join(parts)


def _score(package: ModelPackage, speed: Speed | None) -> Score:
    manifest = package.manifest
    record = recorded_figures(package.folder)
    return Score(
        model=manifest.id,
        task=manifest.name,
        network=manifest.network.name,
        data=_data_folder(record) or "; ".join(item.name for item in manifest.training_data),
        n=record.get("n"),
        aims=aims_of(manifest.id, manifest.pipeline),
        metrics=record.get("metrics", {}),
        megabytes=round(package.weights.stat().st_size / 1e6, 1),
        relative_time=speed.relative.get(manifest.id) if speed else None,
        licence=manifest.licence,
    )


def _data_folder(record: dict[str, Any]) -> str:
    found = re.search(r"--data (\S+)", record.get("how", {}).get("command", ""))
    return f"`{found[1]}`" if found else ""


def _row(score: Score) -> list[str]:
    shown = [aim for aim in score.aims if aim.metric in score.metrics]
    figures = [
        f"{title_of(aim.metric)} {with_interval(score.metrics[aim.metric])}" for aim in shown
    ]
    return [
        f"[{score.model}]({score.model}/MODEL_CARD.md)",
        score.task,
        score.network,
        score.data,
        "-" if score.n is None else str(score.n),
        "<br>".join(figures) or "not measured here",
        "<br>".join("-" if aim.paper is None else number(aim.paper) for aim in shown) or "-",
        "<br>".join(_aim(aim, score.metrics) for aim in shown) or "-",
        f"{score.megabytes:.1f}",
        "-" if score.relative_time is None else f"{score.relative_time:.1f}",
        score.licence,
    ]


def _aim(aim: Aim, metrics: dict[str, Any]) -> str:
    missed = aim.missed_by(metrics)
    if missed is None:
        return "-"
    return f"{number(aim.aim)} {'missed' if missed else 'reached'}"


def _broken(registry: Registry) -> Iterator[str]:
    for broken in registry.broken:
        yield f"\n`{broken.folder.name}` can't be used: {broken.message}"


def _missed(scores: Sequence[Score]) -> Iterator[str]:
    lines = [
        f"- [{score.model}]({score.model}/MODEL_CARD.md): {title_of(aim.metric)} "
        f"{number(score.metrics[aim.metric]['value'])} is {missed:.3f} below {number(aim.aim)}."
        for score in scores
        for aim in score.aims
        if (missed := aim.missed_by(score.metrics))
    ]
    if lines:
        yield "\n## Aims that are missed\n\nWhat was tried is in the cards.\n"
        yield from lines


def _without_data(shipped: set[str]) -> Iterator[str]:
    recipes = [load_recipe(path) for path in sorted(RECIPES.glob("*.yaml"))]
    rows = [_bring(recipe) for recipe in recipes if recipe.data.layout and recipe.id not in shipped]
    if rows:
        yield "\n## Bring the data: one command\n"
        yield (
            "No data for these were to be had. Their recipes read the public sets as they are\n"
            "distributed, and are tested on generated pictures of the same layout. DIR is the\n"
            "folder that was unpacked; the commands run in the folder of this repository.\n"
        )
        yield _table(("model", "task", "data", "command"), rows)


def _bring(recipe: Recipe) -> list[str]:
    sources = "<br>".join(
        f"[{item.name}]({item.url})" if item.url else item.name
        for item in recipe.report.training_data
    )
    command = f"pacsight train training/recipes/{recipe.id}.yaml --data DIR --out checkpoints"
    if recipe.start_weights is not None:
        command += f" --start-weights checkpoints/{REFERENCE}/weights.safetensors"
    return [recipe.id, recipe.name, sources, f"`{command}`"]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
