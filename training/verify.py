"""Is a model folder complete, unharmed and able to run? What ``pacsight models verify`` asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from inference.backends.openvino_backend import OpenVinoBackend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import InferenceError
from inference.model_server import ModelServer
from inference.preprocessing import prepare
from inference.registry import ModelPackage, Registry, load_model
from training.golden import GOLDEN_NAME, GoldenCase, golden_picture

PARITY = 1e-2
"""Largest difference of a logit between OpenVINO and torch; seen: under 1e-4."""

CARD_NAME, METRICS_NAME = "MODEL_CARD.md", "metrics.json"


@dataclass(frozen=True, slots=True)
class Check:
    """One question about a folder: its name, whether it is well, and what was seen."""

    name: str
    is_passed: bool
    detail: str


def verify_folder(folder: Path, *, has_record: bool = True) -> tuple[Check, ...]:
    """Check a model folder; a check that can't be made because an earlier one failed is left out.

    Parameters
    ----------
    folder
        ``checkpoints/<id>``.
    has_record
        Whether card and metrics must be there; not yet while the folder is being written.
    """
    try:
        package = load_model(folder)
    except InferenceError as error:
        return (Check("manifest and digest", False, f"{error.code}: {error}"),)
    digest = package.manifest.weights.sha256[:12]
    checks = [Check("manifest and digest", True, f"{package.manifest.version}, sha256 {digest}…")]
    if has_record:
        checks.append(_record(folder))
    checks.extend(_guarded("network", lambda: _network(package)))
    if checks[-1].is_passed:
        checks.extend(_guarded("golden case", lambda: _golden(package)))
    return tuple(checks)


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(check())
    except InferenceError as error:
        return [Check(name, False, f"{error.code}: {error}")]


def _record(folder: Path) -> Check:
    missing = [name for name in (CARD_NAME, METRICS_NAME) if not (folder / name).is_file()]
    if missing:
        return Check("card and metrics", False, f"{' and '.join(missing)} missing.")
    try:
        json.loads((folder / METRICS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Check("card and metrics", False, f"{METRICS_NAME} is not valid JSON.")
    return Check("card and metrics", True, "there")


def _network(package: ModelPackage) -> Iterator[Check]:
    """Fake tensors in, logits and feature map out, the same from both engines."""
    shape = package.manifest.input.shape
    config = InferenceConfig()
    engines = (TorchBackend(package, config), OpenVinoBackend(package, config))
    batch = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    batch[0] = prepare(golden_picture(1, *shape[1:]).array, package.manifest.input)
    (reference, features), (logits, _) = (engine.predict(batch) for engine in engines)
    channels = package.manifest.network.channels
    is_right = reference.shape == (2, channels) and bool(np.isfinite(reference).all())
    detail = f"{list(batch.shape)} in, {list(reference.shape)} logits, {list(features.shape)} map"
    yield Check("network", is_right, detail)
    difference = float(np.abs(reference - logits).max())
    yield Check(
        "OpenVINO equals torch",
        difference <= PARITY,
        f"largest difference of a logit {difference:.1e}",
    )


def _golden(package: ModelPackage) -> Iterator[Check]:
    try:
        text = (package.folder / GOLDEN_NAME).read_text(encoding="utf-8")
        case = GoldenCase.model_validate_json(text)
    except FileNotFoundError:
        yield Check("golden case", False, f"{GOLDEN_NAME} is missing.")
        return
    except (OSError, UnicodeDecodeError, ValidationError):
        yield Check("golden case", False, f"{GOLDEN_NAME} can't be read.")
        return
    seen = golden_probabilities(package, case.seed, case.rows, case.columns)
    if seen.keys() != case.probabilities.keys():
        yield Check("golden case", False, f"its labels are not {', '.join(seen)}.")
        return
    difference = max(abs(seen[label] - case.probabilities[label]) for label in seen)
    yield Check(
        "golden case", difference <= case.tolerance, f"probability differs by {difference:.1e}"
    )


def golden_probabilities(
    package: ModelPackage, seed: int, rows: int, columns: int
) -> dict[str, float]:
    """Return the model's answer to the generated picture, by label."""
    server = ModelServer(Registry((package,)), InferenceConfig(backend="openvino"))
    prediction = server.predict(package.manifest.id, golden_picture(seed, rows, columns))
    return {finding.label: finding.probability for finding in prediction.findings}
