"""What results say about the model that made them, taken from its package."""

from __future__ import annotations

import json
import re

from dicom_out.model_result import ModelDescription
from inference.registry import ModelPackage

_HEADLINES = (
    "accuracy",
    "auc",
    "recall",
    "specificity",
    "dice",
    "iou",
    "ap50",
    "mean_iou",
    "quadratic_kappa",
)
_LIMITS = re.compile(r"^## Limits\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_MARKUP = re.compile(r"[`*]")


def describe_model(package: ModelPackage) -> ModelDescription:
    """Return a model's description: manifest, figures, and the limits that its card names."""
    manifest = package.manifest
    calibration = manifest.calibration
    given = [f"temperature {calibration.temperature:g}"]
    if calibration.bias:
        given.append(f"bias {', '.join(f'{value:g}' for value in calibration.bias)}")
    return ModelDescription(
        identity=package.identity,
        intended_use=manifest.intended_use,
        research_statement=manifest.research_statement,
        content_qualification=manifest.content_qualification,
        licence=manifest.licence,
        calibration=", ".join(given) if calibration != type(calibration)() else "",
        facts=(*_training_data(package), *_figures(package)),
        limits=_limits(package),
    )


def _training_data(package: ModelPackage) -> list[tuple[str, str]]:
    names = [f"{item.name} ({item.licence})" for item in package.manifest.training_data]
    return [("Training data", "; ".join(names))] if names else []


def _figures(package: ModelPackage) -> list[tuple[str, str]]:
    """Return the main figures with their intervals, if the package has been evaluated."""
    path = package.folder / "metrics.json"
    if not path.is_file():
        return []
    measured = json.loads(path.read_text(encoding="utf-8"))
    shown = [
        f"{name} {value['value']:.3f} ({value['ci95'][0]:.3f} to {value['ci95'][1]:.3f})"
        for name in _HEADLINES
        if (value := measured["metrics"].get(name)) and value["value"] is not None
    ]
    said = f"on {measured['n']} validation images, with 95 % intervals: {', '.join(shown)}"
    return [("Figures", said)] if shown else []


def _limits(package: ModelPackage) -> tuple[str, ...]:
    """Return the points under "Limits" in the model card."""
    path = package.folder / "MODEL_CARD.md"
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = _LIMITS.search(card)
    points = re.split(r"^- ", found[1], flags=re.MULTILINE)[1:] if found else []
    return tuple(" ".join(_MARKUP.sub("", point).split()) for point in points)
