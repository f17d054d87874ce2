"""Prediction and heatmap per image: Pacsight against eager torch with the package ``grad-cam``.

All have the same weights, the same prepared input and the same threads; the runs are interleaved,
so that a busy machine disturbs all alike. Median and quartiles in milliseconds. The package is
measured twice: after a prediction, as it is mostly used, and as the best it can do, when the
prediction is taken from its own forward pass::

    python benchmarks/prediction.py [--images 30] [--networks mobilenetv2 resnet50] [--size 224]
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inference.backends.openvino_backend import OpenVinoBackend
from inference.config import InferenceConfig
from inference.explain import grad_cam, to_source_grid
from inference.heads import open_head
from inference.manifest import parse_manifest
from inference.network_table import NETWORKS
from inference.networks import build_manifest_network
from inference.operators import ready_torchvision
from inference.preprocessing import prepare
from inference.registry import ModelPackage, load_model
from inference.weights import save_weights

Way = Callable[[np.ndarray], np.ndarray]


def write_model(root: Path, network: str, size: int) -> ModelPackage:
    """Make a model folder with random weights; their values don't change the time."""
    data: dict[str, Any] = {
        "id": network,
        "version": "0.0.0",
        "name": network,
        "pipeline": "classification",
        "intended_use": "Benchmark",
        "research_statement": "For research use only",
        "content_qualification": "RESEARCH",
        "licence": "Apache-2.0",
        "training_data": [{"name": "none", "licence": "none"}],
        "accepts": [{"modality": ["DX"]}],
        "input": {
            "shape": [3, size, size],
            "color": "gray",
            "resize": "squash",
            "mean": [0.5],
            "std": [0.5],
        },
        "network": {"name": network, "channels": 2},
        "weights": {"file": "weights.safetensors", "sha256": "0" * 64},
        "explain": {"method": "gradcam", "layer": NETWORKS[network].layer},
        "activation": "softmax",
        "outputs": [
            {
                "label": "Pneumonia",
                "channel": 1,
                "threshold": 0.5,
                "concept": {"scheme": "SCT", "value": "233604007", "meaning": "Pneumonia"},
            }
        ],
    }
    folder = root / network
    folder.mkdir()
    module = build_manifest_network(parse_manifest(data, network))
    data["weights"]["sha256"] = save_weights(module, folder / "weights.safetensors")
    (folder / "manifest.yaml").write_text(yaml.safe_dump(data))
    return load_model(folder)


def our_way(package: ModelPackage, threads: int) -> Way:
    backend = OpenVinoBackend(package, InferenceConfig(threads=threads))
    spec, head = package.manifest.input, open_head(package)
    assert head is not None

    def run(tensor: np.ndarray) -> np.ndarray:
        _, features = backend.run(tensor[np.newaxis])
        return to_source_grid(grad_cam(features[0], head, 1), *spec.plane, spec)

    return run


def usual_way(package: ModelPackage, *, predict_first: bool) -> Way:
    """Eager torch and the package, as its README shows it."""
    ready_torchvision()
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from inference.weights import load_weights

    network = build_manifest_network(package.manifest).eval()
    load_weights(network, package.weights)
    layer = NETWORKS[package.manifest.network.name].layer
    # its hooks slow the network down, so the prediction has one of its own
    explained = copy.deepcopy(network)
    cam = GradCAM(explained, [explained.get_submodule(layer)])

    def run(tensor: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(tensor[np.newaxis])
        if predict_first:
            with torch.inference_mode():
                network(batch).softmax(1)
        heatmap = cam(batch, targets=[ClassifierOutputTarget(1)])[0]
        cam.outputs.softmax(1)
        return heatmap

    return run


def measure(package: ModelPackage, images: int, threads: int) -> list[list[float]]:
    ways = [
        our_way(package, threads),
        usual_way(package, predict_first=True),
        usual_way(package, predict_first=False),
    ]
    rng = np.random.default_rng(0)
    times: list[list[float]] = [[] for _ in ways]
    for number in range(images + 3):
        picture = rng.random((14, 14), np.float32).repeat(73, axis=0).repeat(73, axis=1)
        tensor = prepare(picture, package.manifest.input)
        maps = []
        for run, kept in zip(ways, times, strict=True):
            started = time.perf_counter()
            maps.append(run(tensor))
            if number >= 3:  # the first ones warm up
                kept.append(1000 * (time.perf_counter() - started))
        assert np.abs(maps[0] - maps[1]).max() < 0.05, "the heatmaps differ"
    return times


def shown(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:7.1f} ({low:.1f}-{high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    linear = [name for name, entry in NETWORKS.items() if entry.linear_head]
    parser.add_argument("--networks", nargs="+", choices=linear, default=["mobilenetv2"])
    options = parser.parse_args()

    import torch

    torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {options.threads} threads, "
        f"{options.images} images of {options.size} x {options.size}, ms: median (quartiles)"
    )
    print(f"{'network':<16}{'Pacsight':>20}{'torch, grad-cam':>24}{'grad-cam alone':>24}  faster")
    with tempfile.TemporaryDirectory() as root:
        for network in options.networks:
            package = write_model(Path(root), network, options.size)
            times = measure(package, options.images, options.threads)
            ours, *others = (statistics.median(one) for one in times)
            factors = ", ".join(f"{other / ours:.1f}x" for other in others)
            print(
                f"{network:<16}{shown(times[0]):>20}{shown(times[1]):>24}{shown(times[2]):>24}"
                f"  {factors}",
                flush=True,
            )


if __name__ == "__main__":
    main()
