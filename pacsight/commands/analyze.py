"""``pacsight analyze``: files in; findings, pictures, masks and DICOM results out; no server."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacsight.commands.output import Json, print_json, print_table
from pacsight.commands.studies import prediction_texts
from pacsight.errors import NotFoundError
from pacsight.settings import load_settings

if TYPE_CHECKING:
    from pacsight.analysis import Analysis


def analyze(
    paths: Annotated[
        list[Path], typer.Argument(help="PNG, JPG, NIfTI, DICOM files or folders.", exists=True)
    ],
    model: Annotated[
        str | None, typer.Option(help="Ask only this model; PNG, JPG and NIfTI need one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for pictures, masks and DICOM results.")] = Path(
        "pacsight-results"
    ),
    json: Json = False,
) -> None:
    """Analyse files and folders; write pictures, masks, DICOM results. One JSON object a line."""
    from inference.model_server import ModelServer
    from inference.registry import scan_models
    from pacsight.analysis import analyze_study
    from pacsight.local_studies import collect_studies

    settings = load_settings()
    registry = scan_models(settings.models_dir)
    ids = [package.identity.model_id for package in registry.models]
    if model is not None and model not in ids:
        raise NotFoundError(f"No model {model}; installed: {', '.join(ids) or 'none'}.")
    models = ModelServer(registry, settings.inference_config(), has_gates=True)
    rows = []
    for study in collect_studies(paths):
        for analysis in analyze_study(
            study, registry, models, chosen=model, out=out, now=datetime.now(UTC)
        ):
            rows.append(_row(analysis))
            if json:
                print_json(rows[-1])
    if not json:
        _print(rows)
    if not any(row["refused"] is None for row in rows):
        raise typer.Exit(1)


def _row(analysis: Analysis) -> dict[str, Any]:
    findings = [
        {
            "label": finding.label,
            "probability": finding.probability,
            "threshold": finding.threshold,
            "positive": finding.is_positive,
        }
        for prediction in analysis.predictions
        for finding in prediction.findings
    ]
    segments = [part for prediction in analysis.predictions for part in prediction.segments]
    refusal = analysis.refusal
    row: dict[str, Any] = {
        "input": analysis.study.name,
        "model": analysis.model and analysis.model.model_id,
        "version": analysis.model and analysis.model.version,
        "refused": refusal and {"code": refusal.code, "message": refusal.message},
        "findings": findings,
        "boxes": [
            {
                "label": box.label,
                "score": box.score,
                "x_min": box.x_min,
                "y_min": box.y_min,
                "x_max": box.x_max,
                "y_max": box.y_max,
            }
            for prediction in analysis.predictions
            for box in prediction.boxes
        ],
        "segments": [
            {
                "label": segment.label,
                "voxels": int(segment.mask.sum()),
                "volume_ml": segment.volume_ml,
                "slice_areas_mm2": segment.slice_areas_mm2,
                "mask": str(path),
            }
            for segment, path in zip(segments, analysis.masks, strict=True)
        ],
        "heatmap": str(analysis.heatmaps[0]) if analysis.heatmaps else None,
        "results": [str(path) for path in analysis.results],
        "seconds": round(analysis.seconds, 3),
    }
    key_slices = [
        {
            "sop_instance_uid": prediction.sop_instance_uid,
            **asdict(prediction.key_slice),
            "sentence": prediction.key_slice.sentence,
        }
        for prediction in analysis.predictions
        if prediction.key_slice is not None
    ]
    return row | ({"key_slices": key_slices} if key_slices else {})


def _print(rows: list[dict[str, Any]]) -> None:
    table = []
    for row in rows:
        if row["refused"]:
            said = f"not analysed because {row['refused']['code']}: {row['refused']['message']}"
        else:
            keys = [str(one["sentence"]) for one in row.get("key_slices", ())]
            said = "\n".join([*keys, *prediction_texts(row)])
        table.append((row["input"], row["model"] or "", said, row["heatmap"] or ""))
    print_table("Analysis", ("input", "model", "finding or reason", "picture"), table)
