"""Small models of other kinds than the shipped one, with weights that do something known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from inference.manifest import parse_manifest
from inference.networks import build_manifest_network
from inference.weights import save_weights
from tests.inference.factories import manifest_data, write_model

CT = "1.2.840.10008.5.1.4.1.1.2"
HEART = {"scheme": "SCT", "value": "80891009", "meaning": "Heart"}


def write_volume_model(root: Path) -> Path:
    """Write a model of series (CT or MR) with random weights, always the same ones."""
    return _write(
        root,
        id="toy-volume",
        pipeline="segmentation",
        accepts=[{"modality": ["CT", "MR"], "minimum_rows": 16, "minimum_columns": 16}],
        input={
            "shape": [1, 16, 32, 32],
            "unit": "series",
            "intensity": "percentile",
            "color": "gray",
            "resize": "letterbox",
            "mean": [0.5],
            "std": [0.5],
        },
        network={"name": "unet-3d", "channels": 1},
        explain=None,
        activation="sigmoid",
        calibration={},
        outputs=[{"label": "Heart", "channel": 0, "threshold": 0.5, "concept": HEART}],
    )


def write_slice_model(root: Path) -> Path:
    """Write a classifier that looks through the slices of a CT series; class 1 is "normal"."""
    normal = {"scheme": "SCT", "value": "17621005", "meaning": "Normal"}
    return write_model(
        root,
        id="toy-slices",
        accepts=[{"modality": ["CT"], "plane": ["AXIAL"]}],
        input={
            "shape": [3, 64, 64],
            "slices": "together",
            "color": "gray",
            "resize": "squash",
            "mean": [0.5],
            "std": [0.5],
        },
        outputs=[
            {"label": "Heart", "channel": 0, "threshold": 0.0, "concept": HEART},
            {"label": "Normal", "channel": 1, "threshold": 0.5, "concept": normal},
        ],
    )


def write_mask_model(root: Path) -> Path:
    """Write a model that outlines something on single radiographs."""
    return _write(
        root,
        id="toy-mask",
        pipeline="segmentation",
        accepts=[{"modality": ["CR", "DX"], "minimum_rows": 16, "minimum_columns": 16}],
        input={
            "shape": [1, 64, 64],
            "color": "gray",
            "resize": "squash",
            "mean": [0.5],
            "std": [0.5],
        },
        network={"name": "unet-2d", "channels": 1},
        explain=None,
        activation="sigmoid",
        calibration={},
        outputs=[{"label": "Heart", "channel": 0, "threshold": 0.5, "concept": HEART}],
    )


def _write(root: Path, **changes: Any) -> Path:
    data = manifest_data(**changes)
    folder = root / data["id"]
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    network = build_manifest_network(parse_manifest(data, data["id"]))
    data["weights"]["sha256"] = save_weights(network, folder / "weights.safetensors")
    (folder / "manifest.yaml").write_text(yaml.safe_dump(data))
    return folder
