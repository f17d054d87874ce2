"""Writing a checkpoint folder: whole or not at all."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from inference.manifest import MANIFEST_NAME, Calibration, Explain, Manifest, Output, Weights
from inference.network_table import head_layer
from inference.weights import save_weights
from training.errors import OutputExistsError
from training.recipe import RECIPE_NAME, Recipe, recipe_text

WEIGHTS_NAME = "weights.safetensors"


def target_folder(out: Path, model_id: str) -> Path:
    """Return where the checkpoint goes: `out` if it is named so, ``out/<id>`` otherwise.

    Raises
    ------
    OutputExistsError
        It is there already.
    """
    folder = out if out.name == model_id else out / model_id
    if folder.exists():
        raise OutputExistsError(
            f"{folder} is there already; remove it or choose another folder with --out."
        )
    return folder


@contextmanager
def written_at_once(folder: Path) -> Iterator[Path]:
    """Give a hidden folder of the same name to write into; it becomes `folder` if all goes well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as hidden:
        draft = Path(hidden) / folder.name
        draft.mkdir()
        yield draft
        if folder.exists():
            raise OutputExistsError(f"{folder} has appeared meanwhile; nothing was overwritten.")
        shutil.move(draft, folder)


def half_precision(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in float16, as it is stored; serving computes in float32 from it."""
    return copy.deepcopy(network).cpu().half()


def write_model(
    folder: Path,
    recipe: Recipe,
    network: torch.nn.Module,
    calibration: Calibration,
    thresholds: Mapping[str, float],
) -> Manifest:
    """Write weights, manifest and recipe: all that serving needs.

    Parameters
    ----------
    network
        As it is to be stored, from :func:`half_precision`.
    thresholds
        Operating threshold by class.
    """
    digest = save_weights(network, folder / WEIGHTS_NAME)
    (folder / WEIGHTS_NAME).chmod(0o644)  # safetensors makes it readable to its owner only
    report = recipe.report
    layer = head_layer(recipe.network.name)
    manifest = Manifest(
        id=recipe.id,
        version=recipe.version,
        name=recipe.name,
        pipeline=recipe.pipeline,
        intended_use=report.intended_use,
        research_statement=report.research_statement,
        content_qualification="RESEARCH",
        licence=report.licence,
        training_data=report.training_data,
        accepts=report.accepts,
        prefer=report.prefer,
        input=recipe.input,
        network=recipe.network_ref,
        weights=Weights(file=WEIGHTS_NAME, sha256=digest),
        explain=Explain(method=report.explain, layer=layer) if report.explain and layer else None,
        activation=recipe.activation,
        calibration=calibration,
        outputs=tuple(
            Output(
                label=report.outputs[name].label,
                channel=channel,
                threshold=thresholds[name],
                concept=report.outputs[name].concept,
                keep=report.outputs[name].keep,
            )
            for channel, name in enumerate(recipe.reported_classes, recipe.first_channel)
        ),
    )
    values = manifest.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    (folder / RECIPE_NAME).write_text(recipe_text(recipe), encoding="utf-8")
    return manifest


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, readable."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
