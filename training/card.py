"""``MODEL_CARD.md``: the model for people, written from the recipe and the measured figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.manifest import Accepts, Manifest
from training.aims import comparison_of
from training.explanation_card import explanation_section
from training.gate_record import gate_text
from training.recipe import Recipe
from training.verify import CARD_NAME

_THRESHOLD_WORDS = {
    "f1": "F1",
    "f2": "F2 (what is missed weighs more than false alarms)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy (the mean of sensitivity and specificity)",
}
_CURVES_WORDS = {
    "classification": "ROC, precision and recall, calibration, confusion matrix",
    "detection": "Precision and recall, overlap, scores of boxes, and the training",
    "segmentation": "Dice, IoU and size of each sample, and the training",
}
_CALIBRATION_WORDS = {
    "temperature": "a temperature",
    "temperature-and-bias": "Platt scaling: a temperature and a bias",
}


def write_card(folder: Path, manifest: Manifest, recipe: Recipe, record: Mapping[str, Any]) -> None:
    """Write the card; `record` is the content of ``metrics.json``."""
    size = (folder / manifest.weights.file).stat().st_size / 1e6
    parts = [
        f"# {manifest.name} ({manifest.id} {manifest.version})",
        f"**{manifest.research_statement}.** {manifest.intended_use}.",
        _what(manifest, recipe, size),
        _figures(record),
        comparison_of(manifest.id, manifest.pipeline, record["metrics"]),
        f"![{_CURVES_WORDS.get(recipe.pipeline, 'Curves')}](curves.png)",
        _threshold(recipe, record),
        explanation_section(record),
        gate_text(record["gate"]) if "gate" in record else "",
        "## Data",
        recipe.report.card.data,
        _counts(record),
        "## Limits",
        "\n".join(f"- {limit}" for limit in recipe.report.card.limits),
        _training(recipe, record),
    ]
    text = "\n\n".join(part for part in parts if part)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")


def _what(manifest: Manifest, recipe: Recipe, size: float) -> str:
    sources = "; ".join(f"{item.name} ({item.licence})" for item in manifest.training_data)
    findings = ", ".join(
        f"{output.label} ({output.concept.scheme} {output.concept.value}), "
        f"threshold {output.threshold:g}"
        for output in manifest.outputs
    )
    start = recipe.start_weights
    rows = [
        ("Findings", findings),
        ("Takes", takes(manifest)),
        ("Network", f"{manifest.network.name}, {size:.1f} MB, float16"),
        ("Start weights", f"{start.name} ({start.licence})" if start else "random"),
        ("Licence of the weights", manifest.licence),
        ("Training data", sources),
        ("Explanation", "Grad-CAM of the last feature map" if manifest.explain else "none"),
        ("sha256", f"`{manifest.weights.sha256}`"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def takes(manifest: Manifest) -> str:
    """Return in words which images the model is meant for, limits of the patient included."""
    return "; or ".join(", ".join(_limits(item)) for item in manifest.accepts)


def _limits(accepts: Accepts) -> Iterator[str]:
    yield "/".join(accepts.modality)
    yield f"body part {_any(accepts.body_part_examined)}"
    yield f"view {_any(accepts.view_position)}"
    yield f"at least {accepts.minimum_rows} x {accepts.minimum_columns} pixels"
    if accepts.plane:
        yield f"plane {_any(accepts.plane)}"
    if accepts.contrast != "any":
        yield f"contrast agent {accepts.contrast}"
    for name, unit, limits in (
        ("pixels of", "mm", accepts.pixel_spacing_mm),
        ("slices apart", "mm", accepts.slice_spacing_mm),
        ("age", "years", accepts.age_years),
    ):
        if limits is not None:
            yield f"{name} {limits[0]:g} to {limits[1]:g} {unit}"
    if accepts.patient_sex:
        yield f"sex {'/'.join(accepts.patient_sex)}"


def _any(values: tuple[str, ...]) -> str:
    return "/".join(value or "(empty)" for value in values) or "any"


def _figures(record: Mapping[str, Any]) -> str:
    rows = [
        f"| {name.replace('_', ' ')} | {_figure(figure)} |"
        for name, figure in record["metrics"].items()
    ]
    perfect = any(figure["ci95"] == [1.0, 1.0] for figure in record["metrics"].values())
    title = f"## Figures on {record['n']} validation pictures, with 95 % bootstrap intervals"
    note = (
        "Where no picture was wrong the bootstrap sees no doubt; with n pictures of the class in "
        "question the true figure may still be as low as about 1 - 3/n (the rule of three)."
    )
    return "\n".join([title, "", "| | |", "|---|---|", *rows, *(["", note] if perfect else [])])


def _figure(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def _threshold(recipe: Recipe, record: Mapping[str, Any]) -> str:
    epochs = len(record["how"]["history"])
    if recipe.pipeline == "segmentation":
        return (
            f"These figures flatter: the epoch ({record['how']['best_epoch']} of {epochs}, by "
            "Dice) and, of a single structure, the threshold were chosen on these very samples, "
            "and they are few. They were computed through the serving path (OpenVINO), on the "
            "grid of the source. Dice and IoU are means over the samples; the volume error is "
            "|reported - true| / true."
        )
    return (
        f"These figures flatter: the epoch ({record['how']['best_epoch']} of {epochs}, by "
        f"{recipe.select.metric.replace('_', ' ')}), the calibration "
        f"({_calibration_words(recipe)}) and the threshold were all chosen on "
        "these very pictures, and they are few. They were computed through the serving path "
        "(OpenVINO). The threshold makes "
        f"{_THRESHOLD_WORDS[recipe.select.threshold]} best when each picture's logit is taken as "
        "uncertain by as much as so few pictures warrant, so that single ones don't decide."
    )


def _calibration_words(recipe: Recipe) -> str:
    if recipe.data.multi_label:
        return "a temperature, and a bias for each label"
    return _CALIBRATION_WORDS[recipe.select.calibration]


def _counts(record: Mapping[str, Any]) -> str:
    rows = [
        f"| {split} | {', '.join(f'{name} {count}' for name, count in counts.items())} |"
        for split, counts in record["how"]["pictures"].items()
    ]
    return "\n".join(["| part | pictures |", "|---|---|", *rows])


def _training(recipe: Recipe, record: Mapping[str, Any]) -> str:
    how = record["how"]
    took = f" in {how['seconds'] / 60:.0f} minutes" if how["seconds"] else ""
    lines = [
        "## Training",
        "",
        f"Seed {how['seed']}, {len(how['history'])} epochs{took} on {how['machine']}. "
        "`recipe.yaml` here is the recipe; data sha256 "
        f"`{how['data_sha256'][:16]}…`.",
        "",
        f"    {how['command']}",
    ]
    notes = [f"- {note}" for note in recipe.report.card.notes]
    return "\n".join([*lines, "", *notes] if notes else lines)
