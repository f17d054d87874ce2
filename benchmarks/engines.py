"""Do the engines agree, and how long do they take? Each model of ``checkpoints/`` in each engine.

    python -m benchmarks.engines [--checkpoints FOLDER] [--models ID ...]

The reference is torch on the CPU; beside it run OpenVINO and, where there is one, torch on the GPU
(as the service uses it, and with the TensorFloat-32 that PyTorch takes for convolutions unless told
otherwise). The input is smooth noise of the model's own shape. Of the network's outputs the table
says the largest difference, as a share of the reference's largest value; how many of its decisions
(largest channel, or sign) came out otherwise; whether the same input gave the same bits again; and
the median time of one input in milliseconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from inference.backends import Backend
from inference.backends.torch_backend import TorchBackend
from inference.config import InferenceConfig
from inference.errors import InferenceError
from inference.registry import ModelPackage, scan_models

INPUTS = 4
ROUNDS = 10
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


@contextmanager
def tensor_float_32() -> Iterator[None]:
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = False


def inputs(shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = np.random.default_rng(7).normal(size=(INPUTS, *shape)).astype(np.float32)
    for sigma in (2.0, 8.0):
        smooth = ndimage.gaussian_filter(noise, (0, 0, *[sigma] * (len(shape) - 1)))
        noise = noise + smooth / smooth.std()
    return np.asarray(noise / noise.std(), np.float32)


def decisions(outputs: tuple[NDArray[np.float32], ...], activation: str) -> NDArray[np.int64]:
    first = outputs[0]
    return first.argmax(axis=1) if activation == "softmax" else (first > 0).astype(np.int64)


def row(name: str, package: ModelPackage, backend: Backend, reference: Backend) -> str:
    manifest = package.manifest
    batch = inputs(manifest.input.shape)
    expected, given, again = (one.run(batch) for one in (reference, backend, backend))
    off = max(
        float(np.abs(b - a).max() / max(np.abs(a).max(), 1e-9))
        for a, b in zip(expected, given, strict=True)
    )
    chosen, other = decisions(expected, manifest.activation), decisions(given, manifest.activation)
    same = all(np.array_equal(a, b) for a, b in zip(given, again, strict=True))
    times = []
    for index in range(ROUNDS):
        one = batch[index % INPUTS][np.newaxis]
        started = time.perf_counter()
        backend.run(one)
        times.append(1000 * (time.perf_counter() - started))
    return (
        f"| {manifest.id} | {name} | {off:.1e} | {np.count_nonzero(chosen != other)} of "
        f"{chosen.size} | {'yes' if same else 'NO'} | {statistics.median(times):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    parser.add_argument("--models", nargs="*", help="their ids; all, unless named")
    chosen = parser.parse_args()
    if torch.cuda.is_available():
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| model | engine | difference | decided otherwise | same again | median ms |")
    print("|---|---|---|---|---|---|")
    for package in scan_models(chosen.checkpoints).models:
        if chosen.models and package.manifest.id not in chosen.models:
            continue
        config = InferenceConfig(cache_dir=None)
        try:
            with patch("torch.cuda.is_available", return_value=False):
                reference = TorchBackend(package, config)
        except InferenceError as error:
            print(f"| {package.manifest.id} | torch | {error} | | | |")
            continue
        print(row("torch, CPU", package, reference, reference), flush=True)
        if importlib.util.find_spec("openvino"):
            from inference.backends.openvino_backend import OpenVinoBackend

            print(row("OpenVINO", package, OpenVinoBackend(package, config), reference), flush=True)
        if torch.cuda.is_available():
            backend = TorchBackend(package, config)
            print(row("torch, GPU", package, backend, reference), flush=True)
            with tensor_float_32():
                print(row("the same, TF32", package, backend, reference), flush=True)


if __name__ == "__main__":
    main()
