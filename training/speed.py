"""How much work a model is for one image, as a multiple of one that everybody has.

Milliseconds say more about the machine than about the model, so the scoreboard shows multiples.
What counts is the CPU time of one thread, the least of several turns, so that other work on the
machine changes nothing.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from inference.backends import open_backend
from inference.config import InferenceConfig
from inference.pipelines import run_pipeline
from inference.registry import ModelPackage, Registry
from training.golden import GoldenCase, golden_source
from training.package import write_json
from training.progress import Progress
from training.verify import GOLDEN_SIDES, GOLDEN_SLICES

SPEED_NAME = "speed.json"
REFERENCE = "cxr-pneumonia"
ROUNDS = 2
ENOUGH_S = 0.5
"""Turns go on until so much time was spent."""


@dataclass(frozen=True, slots=True)
class Speed:
    """CPU times of one image or volume, reading excluded, explanation included."""

    machine: str
    reference: str
    reference_ms: float
    relative: dict[str, float]
    """By model: its time divided by the reference's."""


def read_speed(models: Path) -> Speed | None:
    """Return what :func:`write_speed` wrote; None if there is nothing to read."""
    try:
        values: dict[str, Any] = json.loads((models / SPEED_NAME).read_text(encoding="utf-8"))
        return Speed(**values)
    except (OSError, ValueError, TypeError):
        return None


def write_speed(models: Path, speed: Speed) -> None:
    """Write ``speed.json`` into the folder of models."""
    write_json(models / SPEED_NAME, asdict(speed))


def measure_speed(registry: Registry, progress: Progress, known: Speed | None = None) -> Speed:
    """Measure every model against the reference, or the first one where that is missing.

    Parameters
    ----------
    known
        Models that it has are not measured again; others than those of `registry` are dropped.

    Raises
    ------
    InferenceError
        A model can't run.
    """
    packages = {package.manifest.id: package for package in registry.models}
    reference = REFERENCE if REFERENCE in packages else next(iter(packages))
    relative, fastest = {reference: 1.0}, float("inf")
    if known is not None and known.reference == reference:
        relative = {name: known.relative[name] for name in packages if name in known.relative}
        fastest = known.reference_ms / 1000
    waiting = [package for name, package in packages.items() if name not in relative]
    with TemporaryDirectory() as cache, progress.stage("Measuring", len(waiting)) as advance:
        config = InferenceConfig(backend="openvino", threads=1, cache_dir=Path(cache))
        run = _runner(packages[reference], config)
        if not math.isfinite(fastest):
            fastest, _ = _shortest(run, run)
        for package in waiting:
            own, other = _shortest(run, _runner(package, config))
            relative[package.manifest.id] = round(other / own, 2)
            advance()
    ordered = {name: relative[name] for name in packages}
    return Speed(platform.machine(), reference, round(fastest * 1000, 1), ordered)


def _runner(package: ModelPackage, config: InferenceConfig) -> Callable[[], object]:
    rows, columns = GOLDEN_SIDES
    slices = GOLDEN_SLICES if package.manifest.input.unit == "series" else 0
    case = GoldenCase(seed=1, rows=rows, columns=columns, slices=slices, probabilities={})
    source, backend = golden_source(case), open_backend(package, config)
    return lambda: run_pipeline(package, backend, source)


def _shortest(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    times: list[tuple[float, float]] = []
    while len(times) < ROUNDS or sum(map(sum, times)) < ENOUGH_S:
        times.append((_seconds(first), _seconds(second)))
    return min(time[0] for time in times), min(time[1] for time in times)


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started
