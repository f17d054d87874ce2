"""Is a model folder complete, unharmed and able to run? What ``pacsight models verify`` asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from inference.backends import Backend
from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import InferenceError
from inference.model_server import ModelServer
from inference.network_table import NETWORKS
from inference.preprocessing import prepare
from inference.registry import ModelPackage, Registry, load_model
from training.errors import GoldenCaseError
from training.golden import GoldenCase, golden_picture, golden_source, read_golden

PARITY = 1e-2
"""Largest difference between OpenVINO and torch, relative above 1; seen: under 1e-4."""

CARD_NAME, METRICS_NAME = "MODEL_CARD.md", "metrics.json"
GOLDEN_SIDES = (320, 288)
GOLDEN_SLICES = 24


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a folder: its name, whether it is well, and what was seen."""

    name: str
    is_passed: bool
    detail: str


def verify_folder(folder: Path) -> tuple[Check, ...]:
    """Check a model folder; checks that an earlier failure makes impossible are left out."""
    try:
        package = load_model(folder)
    except InferenceError as error:
        return (Check("manifest and digest", False, f"{error.code}: {error}"),)
    digest = package.manifest.weights.sha256[:12]
    seen = f"{package.manifest.version}, sha256 {digest}…"
    checks = [Check("manifest and digest", True, seen), check_record(folder)]
    with TemporaryDirectory() as cache:  # the network is converted once for both
        config = InferenceConfig(backend="openvino", cache_dir=Path(cache))
        checks.extend(_guarded("network", lambda: _network(package, config)))
        if checks[-1].is_passed:
            checks.extend(_guarded("golden case", lambda: _golden(package, config)))
    return tuple(checks)


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(check())
    except (InferenceError, GoldenCaseError) as error:
        return [Check(name, False, f"{error.code}: {error}")]


def check_record(folder: Path) -> Check:
    """Check that people find a card and programs find figures."""
    missing = [name for name in (CARD_NAME, METRICS_NAME) if not (folder / name).is_file()]
    if missing:
        return Check("card and metrics", False, f"{' and '.join(missing)} missing")
    try:
        json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Check("card and metrics", False, f"{METRICS_NAME} is not valid JSON")
    return Check("card and metrics", True, "there")


def _network(package: ModelPackage, config: InferenceConfig) -> Iterator[Check]:
    """Fake tensors in, the network's tensors out, the same from both engines.

    A graph runs in OpenVINO only: nothing to compare it with.
    """
    manifest = package.manifest
    shape = manifest.input.shape
    kind = NETWORKS[manifest.network.name].kind
    engines: tuple[Backend, ...] = (OpenVinoBackend(package, config),)
    if kind != "graph":
        engines = (TorchBackend(package, config), *engines)
    batch = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    if manifest.input.unit == "image":
        batch[0] = prepare(golden_picture(1, *shape[1:]).array, manifest.input)
    reference, *others = (engine.run(batch) for engine in engines)
    axis = 2 if kind == "detector" else 1
    is_right = reference[0].shape[axis] == manifest.network.channels
    is_right = is_right and all(bool(np.isfinite(tensor).all()) for tensor in reference)
    given = ", ".join(str(list(tensor.shape)) for tensor in reference)
    yield Check("network", is_right, f"{list(batch.shape)} in, {given} out")
    for seen in others:
        difference = max(
            float((np.abs(one - other) / np.maximum(1.0, np.abs(one))).max())
            for one, other in zip(reference, seen, strict=True)
        )
        yield Check(
            "OpenVINO equals torch", difference <= PARITY, f"largest difference {difference:.1e}"
        )


def _golden(package: ModelPackage, config: InferenceConfig) -> Iterator[Check]:
    case = read_golden(package.folder)
    seen = _answer(package, config, case)
    if seen.keys() != case.probabilities.keys():
        yield Check("golden case", False, f"its labels are not {', '.join(seen)}")
        return
    difference = max(abs(seen[label] - case.probabilities[label]) for label in seen)
    yield Check(
        "golden case", difference <= case.tolerance, f"probability differs by {difference:.1e}"
    )


def make_golden(package: ModelPackage, config: InferenceConfig, seed: int) -> GoldenCase:
    """Return the golden case of a model that has just been made."""
    spec = package.manifest.input
    is_series = spec.unit == "series"
    # A volume is a little larger than the network's window, so that there are several windows.
    rows, columns = (side * 5 // 4 for side in spec.plane) if is_series else GOLDEN_SIDES
    slices = GOLDEN_SLICES if is_series else 0
    case = GoldenCase(seed=seed, rows=rows, columns=columns, slices=slices, probabilities={})
    seen = _answer(package, config, case)
    tolerance = case.tolerance
    if package.manifest.pipeline == "segmentation":  # a tenth of the smallest structure
        tolerance = min([tolerance, *(0.1 * share for share in seen.values() if share)])
    return case.model_copy(update={"probabilities": seen, "tolerance": tolerance})


def _answer(package: ModelPackage, config: InferenceConfig, case: GoldenCase) -> dict[str, float]:
    """Return what a model says about the generated picture, one number for each label."""
    server = ModelServer(Registry((package,)), config)
    prediction = server.predict(package.manifest.id, golden_source(case))
    labels = [output.label for output in package.manifest.outputs]
    findings = {finding.label: finding.probability for finding in prediction.findings}
    covered = {part.label: float(part.mask.mean()) for part in prediction.segments}
    boxed = {box.label: box.score for box in sorted(prediction.boxes, key=lambda box: box.score)}
    return dict.fromkeys(labels, 0.0) | findings | covered | boxed
