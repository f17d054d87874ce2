"""Time and memory of a long CT series: reading, inference, and writing SEG, report and pictures.

The series is generated (body, lungs, noise), and a shipped model of volumes outlines whatever it
takes for its organ: what counts is how long it takes and how much memory. Everything happens in
a process of its own, whose peak memory is measured; with ``--served`` in a whole ``pacsight serve``
that gets the series by C-STORE, and every process of it is measured::

    python -m benchmarks.volume [--slices 1000] [--size 512] [--model left-atrium] [--served]

Ends with status 1 if a process needed more than 3 GiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmarks.volume_served import peak_gib, serve
from dicom_out.model_result import VolumeResult
from dicom_out.results import encode_volume
from inference.config import InferenceConfig
from inference.model_server import ModelServer
from inference.registry import scan_models
from inference.volume import read_series
from pacsight.analysis import describe_model
from pacsight.samples import ct_series

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
LIMIT_GIB = 3.0


def main() -> int:
    """Write the series, measure in another process, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--model", default="left-atrium")
    parser.add_argument("--served", action="store_true", help="through a whole pacsight serve")
    options = parser.parse_args()
    print(f"{options.slices} slices of {options.size} x {options.size}, model {options.model}\n")
    with tempfile.TemporaryDirectory() as folder:
        series = Path(folder) / "series"
        write_series(series, options.slices, options.size)
        if options.served:
            return print_served(*serve(series, Path(folder), CHECKPOINTS / options.model))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            steps, peak_gib, objects = pool.apply(measure, (series, options.model))
    print("| step | seconds | peak memory so far, GiB |\n|---|---|---|")
    for name, seconds, memory in steps:
        print(f"| {name} | {seconds:.1f} | {memory:.2f} |")
    print(f"\n{objects}; peak {peak_gib:.2f} GiB of {LIMIT_GIB:g}")
    return int(peak_gib > LIMIT_GIB)


def print_served(steps: list[tuple[str, float]], memory: dict[str, float]) -> int:
    print("| step | seconds |\n|---|---|")
    for name, seconds in steps:
        print(f"| {name} | {seconds:.1f} |")
    print("\n| process | peak memory, GiB |\n|---|---|")
    for name, gib in memory.items():
        print(f"| {name} | {gib:.2f} |")
    return int(max(memory.values()) > LIMIT_GIB)


def write_series(folder: Path, slices: int, size: int) -> None:
    """Write an axial CT series, 1 mm apart and 0.7 mm a pixel, one slice a file."""
    folder.mkdir()
    (first, *_) = ct_series(1, slices=2, rows=size, columns=size)
    generator = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1
    noise = generator.normal(0, 15, (size, size))
    uid = str(first.SOPInstanceUID)
    first.PixelSpacing, first.SliceThickness = [0.7, 0.7], 1.0
    first.RescaleSlope, first.RescaleIntercept = 1, 0
    first.PixelRepresentation, first.BitsStored, first.HighBit = 1, 16, 15
    first.BitsAllocated = 16
    first.NumberOfStudyRelatedInstances = slices
    for number in range(slices):
        width = 0.2 + 0.1 * np.sin(number / 60)
        organ = (x / width) ** 2 + ((y + 0.1) / width) ** 2 < 1
        values = np.where(body, 40, -1000) + 120 * organ + np.roll(noise, number, axis=1)
        ds = first
        ds.SOPInstanceUID = f"{uid[:50]}.{number + 1}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.InstanceNumber = number + 1
        ds.ImagePositionPatient = [-0.35 * size, -0.35 * size, float(number)]
        ds.PixelData = values.astype("<i2").tobytes()
        ds.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


def measure(folder: Path, model: str) -> tuple[list[tuple[str, float, float]], float, str]:
    """Return seconds and peak memory after each step, the peak, and what was written."""
    registry = scan_models(CHECKPOINTS)
    package = registry.get(model)
    server = ModelServer(registry, InferenceConfig(), has_gates=True)
    server.warm(model)
    steps: list[tuple[str, float, float]] = [("model loaded", 0.0, peak_gib())]
    started = time.perf_counter()

    def done(name: str) -> None:
        nonlocal started
        steps.append((name, time.perf_counter() - started, peak_gib()))
        started = time.perf_counter()

    volume = read_series(_opened(sorted(folder.iterdir())))
    done("reading")
    prediction = server.predict(model, volume)
    done("inference")
    result = VolumeResult(prediction, volume.headers, volume.display)
    volume = replace(volume, array=volume.array[:0])
    objects = encode_volume(
        result, model=describe_model(package), seed="benchmark", now=datetime.now(UTC)
    )
    done("SEG, report and pictures")
    kinds = ", ".join(f"{item.kind} {len(item.data) >> 10} KiB" for item in objects[:2])
    return steps, peak_gib(), kinds


def _opened(paths: list[Path]) -> Iterator[BinaryIO]:
    for path in paths:
        with path.open("rb") as file:
            yield file


if __name__ == "__main__":
    sys.exit(main())
