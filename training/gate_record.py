"""What a model's gate refuses, measured; and the gate's place in a model folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inference.gate import Gate
from inference.gate_spec import GateSpec
from inference.manifest import MANIFEST_NAME, Manifest, load_manifest
from inference.quality import judge
from inference.weights import sha256_of
from training.gate import GATE_NAME, GateData, fit_gate
from training.gate_changes import DAMAGES, Picture, harmless
from training.gate_data import Looks, looks_of
from training.package import write_json
from training.progress import Progress

METRICS_NAME, CARD_NAME = "metrics.json", "MODEL_CARD.md"
TITLE = "## What it refuses"


def write_gate(folder: Path, data: GateData, progress: Progress, seed: int = 1) -> dict[str, Any]:
    """Fit the gate of a model folder, write it, and name it in the manifest.

    Parameters
    ----------
    folder
        A folder with a manifest.
    data
        From :func:`training.gate.gate_data`.

    Returns
    -------
    dict
        What it refuses, from :func:`measure_gate`: ``gate`` of ``metrics.json``.

    Raises
    ------
    DataError
        A picture can't be read.
    ModelPackageError
        The manifest can't be used.
    """
    manifest = load_manifest(folder)
    gate, spec = fit_gate(data, progress, seed)
    path = folder / GATE_NAME
    gate.save(path)
    spec = spec.model_copy(update={"sha256": sha256_of(path)})
    _write_manifest(folder, manifest.model_copy(update={"gate": spec}))
    return measure_gate(gate, spec, data, progress)


def measure_gate(gate: Gate, spec: GateSpec, data: GateData, progress: Progress) -> dict[str, Any]:
    """Return what a gate refuses: shares with exact 95 % intervals.

    Returns
    -------
    dict
        ``n`` and ``false_refusals`` of the model's own validation pictures, with their ``codes``;
        ``changed``: of the same after harmless changes; ``damaged``: by kind of damage;
        ``true_refusals``: of validation pictures of each other kind.
    """
    random = np.random.default_rng(0)

    def change(picture: Picture) -> Iterator[Picture]:
        yield picture
        yield harmless(picture, random)
        yield from (damage(picture) for damage in DAMAGES.values())

    parts = ("as they are", "changed", *DAMAGES)
    looks = looks_of(data.val, progress, change, "Gate: validation pictures")
    codes = _codes(looks, gate, spec)
    by_part = {part: codes[number :: len(parts)] for number, part in enumerate(parts)}
    own = by_part["as they are"]
    return {
        "n": len(own),
        "false_refusals": _share(own),
        "codes": dict(Counter(code for code in own if code)),
        "changed": _share(by_part["changed"]),
        "damaged": {name: _share(by_part[name]) for name in DAMAGES},
        "true_refusals": {
            name: {"n": len(kind.judged), **_share(_codes(kind.judged, gate, spec))}
            for name, kind in data.others.items()
            if len(kind.judged)
        },
    }


def record_gate(folder: Path, record: Mapping[str, Any]) -> None:
    """Put what a gate refuses into ``metrics.json`` and ``MODEL_CARD.md``, where there are such."""
    metrics, card = folder / METRICS_NAME, folder / CARD_NAME
    if metrics.is_file():
        values = json.loads(metrics.read_text(encoding="utf-8"))
        write_json(metrics, {**values, "gate": record})
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        card.write_text(_with_section(text, gate_text(record)), encoding="utf-8")


def gate_text(record: Mapping[str, Any]) -> str:
    """Return the section of the model card: ``gate`` of ``metrics.json`` for people."""
    rows = [
        (f"its own {record['n']} validation pictures (false refusals)", record["false_refusals"]),
        ("the same turned, cropped, resized, brighter or darker, as JPEG", record["changed"]),
        *((f"the same {name}", figure) for name, figure in record["damaged"].items()),
        *(
            (f"`{name}`, {figure['n']} validation pictures", figure)
            for name, figure in record["true_refusals"].items()
        ),
    ]
    lines = [f"| {name} | {_words(figure)} |" for name, figure in rows]
    known = (
        ", against training pictures of the other kinds below: it is sure about these, less so "
        "about kinds that it never met."
        if record["true_refusals"]
        else " alone."
    )
    note = (
        "A gate looks at each picture before the model does and refuses it, with a code, when it "
        "is empty, plain black or white in too many places, blurred, or not of the kind that the "
        f"model was made for. It was fitted on the training pictures{known}"
    )
    head = ["| pictures | refused |", "|---|---|"]
    return "\n".join([TITLE, "", note, "", *head, *lines])


def _words(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:.1%} ({low:.1%} to {high:.1%})"


def _with_section(card: str, section: str) -> str:
    """Replace the section of the gate, or put it before the data's."""
    parts = [part for part in card.split("\n## ") if f"## {part}".split("\n")[0] != TITLE]
    names = [part.split("\n")[0] for part in parts]
    place = names.index("Data") if "Data" in names else len(parts)
    parts.insert(place, section.removeprefix("## ") + "\n")
    return "\n## ".join(part.rstrip("\n") + "\n" for part in parts)


def _codes(looks: Looks, gate: Gate, spec: GateSpec) -> list[str]:
    return [
        judge(description, seen, gate, spec)
        for description, seen in zip(looks.descriptions, looks.measures, strict=True)
    ]


def _share(codes: list[str]) -> dict[str, Any]:
    """Return the share of refusals with the exact interval of a proportion (Clopper, Pearson)."""
    from scipy.stats import binomtest

    refused = sum(bool(code) for code in codes)
    interval = binomtest(refused, len(codes)).proportion_ci(method="exact")
    return {
        "value": round(refused / len(codes), 4),
        "ci95": [round(float(interval.low), 4), round(float(interval.high), 4)],
    }


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    values = manifest.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
