"""A tiny generated data set and a recipe that learns it in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SIDE = 32


def picture(generator: np.random.Generator, has_blob: bool) -> Image.Image:
    """Grey noise, with or without a bright round spot."""
    pixels = generator.normal(70.0, 12.0, (SIDE, SIDE))
    if has_blob:
        row, column = generator.integers(10, SIDE - 10, 2)
        y, x = np.mgrid[0:SIDE, 0:SIDE]
        pixels += 160.0 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 40.0)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_data(
    folder: Path,
    *,
    count: int = 40,
    val: int = 12,
    classes: tuple[str, ...] = ("plain", "spot"),
    columns: tuple[str, ...] = ("file", "label", "split", "group", "source"),
) -> Path:
    """Write pictures of the classes in turn (the last one has spots) and ``labels.csv``."""
    generator = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count + val):
        label = number % len(classes)
        file = f"images/{number:03}.png"
        picture(generator, label == len(classes) - 1).save(folder / file)
        rows.append(
            {
                "file": file,
                "label": classes[label],
                "split": "train" if number < count else "val",
                "group": f"g{number}",
                "source": "generated",
            }
        )
    write_labels(folder, [{name: row[name] for name in columns} for row in rows])
    return folder


def read_labels(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_labels(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def recipe_values(classes: tuple[str, ...] = ("plain", "spot")) -> dict[str, Any]:
    reported = classes[1:] if len(classes) == 2 else classes
    return {
        "id": "spots",
        "version": "0.1.0",
        "name": "Spots on noise",
        "seed": 3,
        "start_weights": {"name": "another checkpoint", "licence": "CC-BY-4.0"},
        "data": {"classes": list(classes)},
        "input": {
            "shape": [3, SIDE, SIDE],
            "color": "gray",
            "resize": "squash",
            "mean": [0.5],
            "std": [0.5],
        },
        "network": {"name": "mobilenetv2", "args": {"padding": "same"}, "batch_norm": "frozen"},
        "augment": {
            "rotate_degrees": 10,
            "scale": 0.1,
            "shift": 0.05,
            "flip": "both",
            "gamma": 0.1,
            "contrast": 0.1,
            "brightness": 0.05,
            "noise": 0.02,
            "blur_px": 0.5,
        },
        "schedule": {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3, "average_decay": 0.5},
        "select": {"metric": "log_loss", "calibration": "temperature"},
        "report": {
            "intended_use": "Tests",
            "licence": "CC0-1.0",
            "training_data": [{"name": "generated", "licence": "CC0-1.0"}],
            "accepts": [{"modality": ["OT"], "minimum_rows": 32, "minimum_columns": 32}],
            "outputs": {
                name: {
                    "label": name.capitalize(),
                    "concept": {"scheme": "99TEST", "value": f"T-{name}", "meaning": name},
                }
                for name in reported
            },
            "card": {"data": "Generated pictures.", "limits": ["Good for tests only."]},
        },
    }


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path
