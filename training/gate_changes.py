"""Changes of pictures that a gate is fitted and judged with; see ``training.gate``.

All take and give display values in [0, 1]: float32 [rows, columns] or [rows, columns, 3].
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Picture = NDArray[np.float32]
Random = np.random.Generator

BLUR_SHARE = 0.015
"""Standard deviation of the damaging blur, as a share of the side."""


def harmless(picture: Picture, random: Random) -> Picture:
    """Change a picture as devices, exports and people do without harm.

    Mirrored, turned by up to 5 degrees, cropped by up to 5 % on each side, made smaller or larger,
    another brightness, and saved as JPEG.
    """
    image = Image.fromarray(_bytes(picture))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.5:
        image = image.rotate(random.uniform(-5.0, 5.0), Image.Resampling.BILINEAR)
    if random.random() < 0.6:
        left, top, right, bottom = random.uniform(0.0, 0.05, 4)
        width, height = image.size
        box = (width * left, height * top, width * (1 - right), height * (1 - bottom))
        image = image.crop((int(box[0]), int(box[1]), round(box[2]), round(box[3])))
    scale = random.choice([0.85, 1.0, 1.0, 1.6])
    size = (max(8, int(image.width * scale)), max(8, int(image.height * scale)))
    values = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) / 255.0
    curved = values ** np.exp(random.uniform(-0.2, 0.2)) * random.uniform(0.9, 1.08)
    moved = curved + random.uniform(-0.04, 0.04) * (values > 0.02)  # black borders stay black
    return _as_jpeg(np.clip(moved, 0.0, 1.0).astype(np.float32), int(random.uniform(40, 95)))


def turned(picture: Picture, turn: int) -> Picture:
    """Return one of the eight rotations and reflections, `turn` from 0 to 7."""
    other = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(other[:, ::-1] if turn >= 4 else other)


def _blurred(picture: Picture) -> Picture:
    sigma = BLUR_SHARE * float(np.sqrt(picture.shape[0] * picture.shape[1]))
    sigmas = (sigma, sigma) + (0.0,) * (picture.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(picture, sigmas), np.float32)


def _overexposed(picture: Picture) -> Picture:
    return _stored(picture * 2.2)


def _underexposed(picture: Picture) -> Picture:
    return _stored((picture - 0.5) * 1.6)


def _empty(picture: Picture) -> Picture:
    return np.full_like(picture, picture.mean())


DAMAGES: Mapping[str, Callable[[Picture], Picture]] = {
    f"blurred (sigma {BLUR_SHARE:.1%} of the side)": _blurred,
    "overexposed (values times 2.2)": _overexposed,
    "underexposed (the darker half made black)": _underexposed,
    "empty (one value)": _empty,
}
"""What a gate should refuse, by its name in the record."""


def generated(random: Random) -> Picture:
    """Draw a picture that shows nothing medical: clouds, shapes, shades or lines of text.

    Half of them are coloured. They stand for all that a gate has never seen.
    """
    rows, columns = (int(side) for side in random.integers(96, 200, 2))
    base = _DRAWERS[random.integers(len(_DRAWERS))](random, rows, columns)
    level = base * random.uniform(0.5, 1.6) + random.normal() * 0.8
    gray = 1.0 / (1.0 + np.exp(-level))
    if random.random() < 0.4:
        return gray.astype(np.float32)
    tint = random.uniform(-0.25, 0.25, 3) * random.random()
    spread = random.random() * 0.13
    layers = [gray + tint[c] + spread * _clouds(random, rows, columns) for c in range(3)]
    return np.clip(np.stack(layers, axis=-1), 0.0, 1.0).astype(np.float32)


def _clouds(random: Random, rows: int, columns: int) -> NDArray[np.float64]:
    """Noise of a random grain, mean 0, deviation 1."""
    down, across = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None]
    frequency = np.maximum(np.hypot(down, across), 1.0 / max(rows, columns))
    waves = np.fft.rfft2(random.normal(size=(rows, columns)))
    field = np.fft.irfft2(waves / frequency ** random.uniform(0.0, 2.2), (rows, columns))
    return (field - field.mean()) / (field.std() + 1e-9)


def _shade(random: Random, rows: int, columns: int) -> NDArray[np.float64]:
    down, across = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    slope = random.uniform(-3.0, 3.0, 2)
    return 0.4 * _clouds(random, rows, columns) + slope[0] * down + slope[1] * across


def _shapes(random: Random, rows: int, columns: int) -> NDArray[np.float64]:
    base = 0.3 * _clouds(random, rows, columns)
    y, x = np.mgrid[0:rows, 0:columns]
    for _ in range(int(random.integers(2, 9))):
        down = (y - random.uniform(0, rows)) / random.uniform(5, rows / 2)
        across = (x - random.uniform(0, columns)) / random.uniform(5, columns / 2)
        is_round = random.random() < 0.5
        inside = np.hypot(down, across) < 1 if is_round else np.maximum(abs(down), abs(across)) < 1
        base[inside] = random.normal() * 1.5 + 0.2 * base[inside]
    return base


def _page(random: Random, rows: int, columns: int) -> NDArray[np.float64]:
    base = 2.0 + 0.05 * _clouds(random, rows, columns)
    for top in range(8, rows - 8, int(random.integers(6, 14))):
        ink = ndimage.gaussian_filter1d(random.random((3, columns - 16)), 1.0, axis=1) > 0.5
        base[top : top + 3, 8:-8] -= 4.0 * ink
    return base if random.random() < 0.6 else -base


_DRAWERS = (_clouds, _shade, _shapes, _page)


def _bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0.0, 1.0) * np.float32(255.0) + np.float32(0.5)).astype(np.uint8)


def _stored(picture: Picture) -> Picture:
    """Clip and round to 8 bits, as a stored picture is."""
    return _bytes(picture).astype(np.float32) / np.float32(255.0)


def _as_jpeg(picture: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(_bytes(picture)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / np.float32(255.0)
