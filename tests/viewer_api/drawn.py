"""Drawn pictures of the kinds that people upload; no patient stands behind them."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from pacsight.phantom import LEVELS, radiograph
from pacsight.samples import ct_series

REACH = 24
"""Pixels to each side of a point of a vessel, at least five times its width."""


def xray_png(path: Path) -> Path:
    pixels = radiograph(42, consolidation=True, rows=1024, columns=832)
    Image.fromarray((pixels / LEVELS * 255).astype(np.uint8)).save(path)
    return path


def fundus_jpeg(path: Path) -> Path:
    """Draw a fundus photograph: an orange disc on black, optic disc, vessels from there."""
    side = 512
    y, x = np.mgrid[:side, :side].astype(np.float64)
    radius = np.hypot(x - side / 2, y - side / 2)
    shade = np.clip(1.15 - radius / side, 0, 1)
    image = np.stack([200 * shade, 95 * shade, 45 * shade], axis=-1)
    disc = np.exp(-(((x - 340) ** 2 + (y - 250) ** 2) / 2 / 28**2))
    image += disc[..., None] * np.array([60, 110, 90])
    rng = np.random.default_rng(3)
    for angle in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        px, py, way = 340.0, 250.0, angle
        for step in range(230):
            way += rng.normal(0, 0.06)
            px, py = px + np.cos(way), py + np.sin(way)
            width = max(1.2, 4.5 - step / 60)
            part = tuple(
                slice(max(0, int(at) - REACH), max(0, int(at) + REACH)) for at in (py, px)
            )  # further away there is nothing to be seen of it
            near = np.exp(-(((x[part] - px) ** 2 + (y[part] - py) ** 2) / 2 / width**2))
            image[part] -= near[..., None] * np.array([9, 7, 3])
    image += rng.normal(0, 2.5, image.shape)
    image[radius > side * 0.47] = 0
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path, quality=92)
    return path


def volume_nifti(path: Path) -> Path:
    z, y, x = np.mgrid[:12, :64, :64].astype(np.float32)
    ball = ((x - 32) ** 2 + (y - 30) ** 2 + 9 * (z - 6) ** 2) < 400
    values = (ball * 600 + 100 + np.random.default_rng(5).normal(0, 20, ball.shape)).astype(
        np.int16
    )
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.diag([1.5, 1.5, 6.0, 1.0]))
    path.write_bytes(gzip.compress(image.to_bytes()))
    return path


def ct_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for dataset in ct_series(9, slices=6):
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            archive.writestr(f"CT/{dataset.InstanceNumber:04}.dcm", buffer.getvalue())
    return path
