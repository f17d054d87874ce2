"""Generated discs on pictures and balls in volumes, with masks, and recipes that learn them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from tests.training.factories import write_labels

SPACING = (2.0, 1.0, 1.0)
"""Of the volumes in mm: slices, rows, columns."""


def write_discs(folder: Path, *, count: int = 12, val: int = 4) -> Path:
    """Write grey pictures with a bright disc, a mask of it, and a field of view."""
    for name in ("images", "masks", "fov"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:40, :36]
    view = (y - 20) ** 2 + (x - 18) ** 2 < 17**2
    for number in range(count):
        row, column = generator.integers(12, 24, 2)
        disc = (y - row) ** 2 + (x - column) ** 2 < 64
        pixels = (generator.normal(60.0, 10.0, disc.shape) + 110 * disc).clip(0, 255)
        for name, values in (("images", pixels), ("masks", disc * 255), ("fov", view * 255)):
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{number}.png")
    return _labelled(folder, count, val, ".png", fov=True)


def write_balls(folder: Path, *, count: int = 8, val: int = 2) -> Path:
    """Write NIfTI volumes with a ball (1) that has a brighter core (2)."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    generator = np.random.default_rng(2)
    z, y, x = np.mgrid[:16, :32, :36]
    for number in range(count):
        depth, row, column = generator.integers(6, 10), *generator.integers(13, 20, 2)
        square = (2.0 * (z - depth)) ** 2 + (y - row) ** 2 + (x - column) ** 2
        mask = (square < 100).astype(np.int16) + (square < 25)
        values = (generator.normal(60.0, 8.0, mask.shape) + 60 * mask).astype(np.int16)
        save_nifti(folder / "images" / f"{number}.nii.gz", values)
        save_nifti(folder / "masks" / f"{number}.nii.gz", mask)
    return _labelled(folder, count, val, ".nii.gz", fov=False)


def save_nifti(path: Path, values: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    """Save [slices, rows, columns] of LPS: columns count to the left, rows to the back."""
    z, y, x = spacing
    nibabel.save(nibabel.Nifti1Image(values.T, np.diag([-x, -y, z, 1.0])), path)


def _labelled(folder: Path, count: int, val: int, end: str, *, fov: bool) -> Path:
    rows = []
    for number in range(count):
        row = {
            "file": f"images/{number}{end}",
            "mask": f"masks/{number}{end}",
            "split": "train" if number < count - val else "val",
            "group": f"g{number}",
            "source": "generated",
        }
        rows.append(row | ({"fov": f"fov/{number}{end}"} if fov else {}))
    write_labels(folder, rows)
    return folder


def mask_recipe(
    name: str, classes: tuple[str, ...], network: dict[str, Any], spec: dict[str, Any]
) -> dict[str, Any]:
    """Return a recipe; `spec` are fields of its input beside the usual ones."""
    usual = {"color": "gray", "resize": "letterbox", "mean": [0.3], "std": [0.3]}
    return {
        "id": name,
        "version": "0.1.0",
        "name": f"Generated {name}",
        "pipeline": "segmentation",
        "seed": 3,
        "data": {"classes": list(classes)},
        "input": usual | spec,
        "network": network,
        "augment": {"rotate_degrees": 10, "scale": 0.1, "flip": "both", "noise": 0.02},
        "schedule": {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 5e-3,
            "average_decay": 0.3,
        },
        "select": {"metric": "dice"},
        "report": {
            "intended_use": "Tests",
            "licence": "CC0-1.0",
            "training_data": [{"name": "generated", "licence": "CC0-1.0"}],
            "accepts": [{"modality": ["OT"]}],
            "explain": None,
            "outputs": {
                label: {
                    "label": label.capitalize(),
                    "concept": {"scheme": "99TEST", "value": f"T-{label}", "meaning": label},
                    "keep": "largest",
                }
                for label in classes
            },
            "card": {"data": "Generated.", "limits": ["Good for tests only."]},
        },
    }


def discs_recipe() -> dict[str, Any]:
    """Return a recipe for :func:`write_discs`."""
    network = {"name": "unet-2d", "args": {"features": "8-8-8-16-16-8"}}
    values = mask_recipe("discs", ("disc",), network, {"shape": [1, 48, 48]})
    values["augment"]["patches"] = 6
    return values


def balls_recipe() -> dict[str, Any]:
    """Return a recipe of a network for volumes for :func:`write_balls`."""
    network = {"name": "unet-3d", "args": {"channels": "8-16-32"}}
    spec = {"shape": [1, 16, 32, 32], "unit": "series", "spacing_mm": [2.0, 1.25, 1.25]}
    values = mask_recipe("balls", ("shell", "core"), network, spec | {"intensity": "percentile"})
    values["augment"]["patches"] = 8
    return values


def slices_recipe() -> dict[str, Any]:
    """Return a recipe of a network for slices for :func:`write_balls`."""
    network = {"name": "unet-2d", "args": {"features": "8-8-8-16-16-8"}}
    spec = {"shape": [3, 32, 32], "unit": "series", "intensity": "percentile"}
    return mask_recipe("slices", ("shell", "core"), network, spec)
