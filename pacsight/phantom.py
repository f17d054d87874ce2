"""Drawn anatomy: pictures that look like a frontal chest radiograph or a thoracic CT slice.

Everything is generated from a seed, so no patient ever stands behind a sample. The radiograph is
a line integral: thicknesses of soft tissue, air and bone along the ray are added up, blurred as a
detector does and given the noise of counted quanta. It is a test picture, not a simulation.

Positions are (u, v): u runs from -1 at the image's left edge (the patient's right) to 1, v from 0
at the top edge to 1 at the bottom.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Plane = NDArray[np.float64]
"""[rows, columns], thickness or attenuation in arbitrary units."""
Curve = NDArray[np.float64]
"""[points, 2], (u, v) of each point."""

FRAME_TOP, FRAME_HEIGHT = 0.035, 0.84
"""The part of the drawn body that the detector takes in, in units of v."""

LEVELS = 4095
"""Highest pixel value of the 12 stored bits."""


class _Thorax(NamedTuple):
    """The shape of one drawn person; every value is a little different for each seed."""

    half_width: float
    dome_right: float
    """v of the top of the right diaphragm dome"""
    dome_left: float
    heart_width: float
    apex: float
    """v of the lung apices"""
    tilt: float
    """sideways lean of the spine"""


def radiograph(
    seed: int, *, consolidation: bool, rows: int = 1024, columns: int = 832
) -> NDArray[np.uint16]:
    """Draw a frontal chest radiograph.

    Parameters
    ----------
    seed
        Same seed, same picture; another one is another person.
    consolidation
        Whether one lower lung field carries an airspace opacity.
    rows, columns
        Size in pixels, from 1 up.

    Returns
    -------
    NDArray[np.uint16]
        [rows, columns], 0 to 4095, bright = dense (MONOCHROME2).
    """
    rng = np.random.default_rng(seed)
    person = _Thorax(
        half_width=rng.uniform(0.78, 0.84),
        dome_right=rng.uniform(0.685, 0.72),
        dome_left=rng.uniform(0.71, 0.745),
        heart_width=rng.uniform(0.24, 0.30),
        apex=rng.uniform(0.135, 0.155),
        tilt=rng.uniform(-0.015, 0.015),
    )
    u, v = _grid(rows, columns)
    lungs = _lungs(person, u, v)
    heart = _heart(person, u, v)
    air = lungs * (1 - 0.66 * heart)
    if consolidation:
        air = 0.8 * air * (1 - _opacity(rng, u, v))  # a shallow breath
    vessels = _vessels(rng, rows, columns) * np.sqrt(lungs)
    total = (
        1.02 * _body(person, u, v)
        - 0.74 * air
        + 0.24 * heart * (0.4 + 0.6 * lungs)
        + 0.17 * _spine(person, u, v)
        + _bones(rng, person, rows, columns)
        + 0.20 * vessels * (0.25 + air)
        - 0.10 * _abdominal_gas(person, u, v)
        - 0.10 * _airway(person, u, v)
    )
    total += 0.020 * _cloud(rng, rows, columns, 0.03) * (total > 0.1)
    return _expose(rng, total)


def ct_slice(
    seed: int, position: float, *, rows: int = 128, columns: int = 128
) -> NDArray[np.int16]:
    """Draw one axial slice of a thorax, [rows, columns] in Hounsfield units.

    Parameters
    ----------
    seed
        Same seed, same person.
    position
        From 0 (lung apices) to 1 (diaphragm).
    rows, columns
        Size in pixels.
    """
    rng = np.random.default_rng((seed, round(position * 10_000)))
    u, v = _grid(rows, columns)
    w = 2 * v - 1
    swell = 0.55 + 0.45 * np.sin(np.pi * min(max(position, 0.0), 1.0))
    image = np.full((rows, columns), -1000.0)
    image[_ellipse(u, w, 0, 0, 0.86, 0.62) > 0] = -90.0  # fat
    image[_ellipse(u, w, 0, 0, 0.80, 0.56) > 0] = 45.0  # muscle
    for side in (-1, 1):
        ribs = _ellipse(u, w, side * 0.38, 0, 0.36, 0.50 * swell) > 0
        lung = _ellipse(u, w, side * 0.38, 0, 0.32, 0.46 * swell) > 0
        angle = np.arctan2(w, u - side * 0.38) + 3 * position
        image[ribs & ~lung & (np.sin(6 * angle) > 0.3)] = 420.0
        image[lung] = -840.0
    image[_ellipse(u, w, 0.08, -0.08, 0.22, 0.24) > 0] = 40.0  # heart and great vessels
    image[_ellipse(u, w, 0, 0.40, 0.13, 0.12) > 0] = 240.0  # vertebral body
    image[_ellipse(u, w, 0, 0.50, 0.05, 0.04) > 0] = 30.0  # spinal canal
    image = ndimage.gaussian_filter(image, 0.6) + rng.normal(0, 14, image.shape)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)


def _grid(rows: int, columns: int) -> tuple[Plane, Plane]:
    """Return u [1, columns] and v [rows, 1] of the pixel centres."""
    u = (np.arange(columns) + 0.5) / columns * 2 - 1
    v = FRAME_TOP + FRAME_HEIGHT * (np.arange(rows) + 0.5) / rows
    return u[None, :], v[:, None]


def _ellipse(u: Plane, v: Plane, cu: float, cv: float, ru: float, rv: float) -> Plane:
    """Thickness of an ellipsoid of depth 1 along the ray."""
    return np.sqrt(np.clip(1 - ((u - cu) / ru) ** 2 - ((v - cv) / rv) ** 2, 0, None))


def _step(x: Plane, width: float) -> Plane:
    """A soft step from 0 to 1 around 0."""
    return 0.5 * (1 + np.tanh(x / width))


def _cloud(rng: np.random.Generator, rows: int, columns: int, grain: float) -> Plane:
    """Smooth random texture, mean 0, deviation 1; ``grain`` is a share of the picture."""
    coarse = max(2, round(1 / grain))
    noise = rng.normal(size=(coarse, coarse))
    zoomed = ndimage.zoom(noise, (rows / coarse, columns / coarse), order=3)
    full = np.zeros((rows, columns))
    full[: zoomed.shape[0], : zoomed.shape[1]] = zoomed[:rows, :columns]
    return full


def _wall(person: _Thorax, v: Plane) -> Plane:
    """Half width of the rib cage at height v."""
    t = np.clip((v - person.apex) / (0.80 - person.apex), 0, 1)
    return person.half_width * (0.30 + 0.70 * np.sqrt(np.clip(1 - (1 - t) ** 2.6, 0, 1)))


def _lungs(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """Air thickness of both lungs, 0 to 1."""
    wall = _wall(person, v)
    total = np.zeros(np.broadcast_shapes(u.shape, v.shape))
    for side, dome, hilum in ((-1, person.dome_right, 0.15), (1, person.dome_left, 0.145)):
        across = side * (u - person.tilt)
        inner = hilum + 0.05 * np.clip((v - 0.45) / 0.3, 0, 1) - 0.03 * _step(0.25 - v, 0.05)
        middle = inner + (wall - inner) * 0.42
        floor = dome + 0.62 * np.abs(across - middle) ** 1.9
        depth = np.clip((across - inner) / (wall - inner + 1e-9), 0, 1)
        profile = (4 * depth * (1 - depth)) ** 0.38
        apex = np.clip((v - person.apex) / 0.17, 0, 1) ** 0.55
        base = _step(floor - v, 0.007)
        total += profile * apex * base * (0.84 + 0.16 * np.clip((v - 0.2) / 0.3, 0, 1))
    return total


def _heart(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """Heart, great vessels and hila, 0 to about 1."""
    width = person.heart_width
    left = _ellipse(u + 0.35 * (v - 0.58), v, 0.5 * width, 0.60, 1.02 * width, 0.165)
    right = _ellipse(u, v, -0.28 * width, 0.605, 0.62 * width, 0.125)
    knob = 0.8 * _ellipse(u, v, 0.105, 0.315, 0.085, 0.045)
    aorta = 0.7 * _ellipse(u, v, 0.075, 0.45, 0.085, 0.18)
    hila = 0.5 * _ellipse(u, v, -0.185, 0.455, 0.055, 0.065)
    hila = hila + 0.5 * _ellipse(u, v, 0.195, 0.425, 0.055, 0.055)
    column = _ellipse(u, v, 0.0, 0.5, 0.15, 0.7) * 0.9
    whole = np.maximum.reduce([left, right, knob, aorta, column + 0 * left]) + 0.5 * hila
    size = np.hypot(*whole.shape)
    return np.clip(ndimage.gaussian_filter(whole, 0.0028 * size), 0, 1.1)


def _body(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """Soft tissue of trunk, neck and shoulders."""
    flank = person.half_width + 0.10 + 0.5 * _step(0.27 - v, 0.07)
    trunk = np.clip(1 - (np.abs(u) / flank) ** 6, 0, None) ** 0.5
    shoulder = 0.012 + 0.155 * np.clip(np.abs(u - person.tilt) - 0.24, 0, None) ** 0.62
    depth = 0.86 + 0.26 * _step(v - person.dome_left - 0.01, 0.05) - 0.16 * _step(0.2 - v, 0.08)
    depth = depth - 0.20 * _step(np.abs(u) - person.half_width, 0.06)
    muscle = sum(0.12 * _ellipse(u, v, s * 0.62, 0.33, 0.30, 0.13) for s in (-1, 1))
    return (trunk * depth + muscle) * _step(v - shoulder, 0.016)


def _spine(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """Vertebral bodies with their discs."""
    centre = person.tilt * np.sin(3 * v)
    column = np.clip(1 - ((u - centre) / (0.075 + 0.03 * v)) ** 4, 0, None)
    phase = v**0.86 * 2 * np.pi * 15.5
    disc = 0.72 + 0.28 * np.tanh(3.2 * (np.cos(phase) + 0.62))
    pedicles = sum(
        np.exp(-(((u - centre - s * 0.05) / 0.014) ** 2)) * np.clip(np.cos(phase), 0, 1) ** 3
        for s in (-1, 1)
    )
    process = 0.35 * np.exp(-(((u - centre) / 0.012) ** 2)) * np.clip(np.cos(phase - 0.6), 0, 1)
    return column * disc + 0.30 * pedicles + process


def _abdominal_gas(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """The gastric bubble below the left dome."""
    return _ellipse(u, v, 0.36, person.dome_left + 0.095, 0.13, 0.045)


def _airway(person: _Thorax, u: Plane, v: Plane) -> Plane:
    """Trachea and main bronchi."""
    trachea = np.clip(1 - ((u - person.tilt) / 0.04) ** 2, 0, None) * _step(0.365 - v, 0.01)
    for side, slope in ((-1, 0.62), (1, 0.85)):
        centre = side * (v - 0.36) / (1 - 0.5 * slope) * 1.15
        branch = np.clip(1 - ((u - centre - person.tilt) / 0.034) ** 2, 0, None)
        trachea = trachea + 0.8 * branch * _step(v - 0.365, 0.008) * _step(0.43 - v, 0.012)
    return np.clip(trachea, 0, 1)


def _opacity(rng: np.random.Generator, u: Plane, v: Plane) -> Plane:
    """Airspace opacity in one lower field, as the share of air that it replaces."""
    side = -1 if rng.random() < 0.6 else 1
    cu = side * rng.uniform(0.33, 0.40)
    cv = rng.uniform(0.54, 0.58)
    rows, columns = v.shape[0], u.shape[1]
    ragged = 0.22 * _cloud(rng, rows, columns, 0.10) + 0.12 * _cloud(rng, rows, columns, 0.035)
    distance = np.hypot((u - cu) / 0.42, (v - cv) / 0.19)
    core = _step(0.85 - distance + ragged, 0.38)
    haze = 0.30 * np.exp(-((distance / 2.0) ** 2))
    spots = 1 - 0.15 * np.clip(_cloud(rng, rows, columns, 0.020), -1.2, 1.2)
    return np.clip(0.95 * core * spots + haze, 0, 0.93)


def _pixels(curve: Curve, rows: int, columns: int) -> list[tuple[float, float]]:
    """Turn (u, v) points into picture positions for drawing."""
    return [((u + 1) / 2 * columns, (v - FRAME_TOP) / FRAME_HEIGHT * rows) for u, v in curve]


def _tubes(curves: list[Curve], radius: float, rows: int, columns: int) -> Plane:
    """Thickness of hollow tubes (bone with a cortex) along curves; radius in units of u."""
    canvas = Image.new("1", (columns, rows), 1)
    pen = ImageDraw.Draw(canvas)
    for curve in curves:
        pen.line(_pixels(curve, rows, columns), fill=0)
    distance = ndimage.distance_transform_edt(np.asarray(canvas)) / max(1, columns) * 2 / radius
    solid = np.sqrt(np.clip(1 - distance**2, 0, None))
    marrow = np.sqrt(np.clip(0.72 - distance**2, 0, None))
    return solid - 0.62 * marrow


def _bones(rng: np.random.Generator, person: _Thorax, rows: int, columns: int) -> Plane:
    """Ribs (posterior and fainter anterior arcs), clavicles and scapulae."""
    behind: list[Curve] = []
    front: list[Curve] = []
    for number in range(10):
        start = 0.148 + 0.0585 * number + rng.normal(0, 0.0015)
        for side in (-1, 1):
            posterior, anterior = _rib(person, number, start)
            behind.append(posterior * [side, 1])
            front.append(anterior * [side, 1])
    bones = 0.19 * _tubes(behind, 0.030, rows, columns)
    bones += 0.11 * _tubes(front, 0.034, rows, columns)
    t = np.linspace(0, 1, 40)
    collar = np.stack([0.085 + 0.80 * t, 0.215 - 0.062 * t + 0.020 * np.sin(2 * np.pi * t)], 1)
    blade = np.stack([0.93 - 0.16 * t + 0.05 * np.sin(np.pi * t), 0.18 + 0.28 * t], 1)
    sides = ([1, 1], [-1, 1])
    bones += 0.24 * _tubes([collar * s for s in sides], 0.036, rows, columns)
    return bones + 0.10 * _tubes([blade * s for s in sides], 0.030, rows, columns)


def _rib(person: _Thorax, number: int, start: float) -> tuple[Curve, Curve]:
    """Return the posterior and the anterior arc of one rib of the image's right half."""
    t = np.linspace(0, 1, 60)
    drop = 0.045 + 0.011 * number
    turn = start + drop
    wall = float(_wall(person, np.array(turn + 0.02))) + 0.012
    u = 0.06 + (wall - 0.06) * np.sin(t * np.pi / 2) ** 0.9
    v = start - 0.020 * np.sin(np.pi * np.clip(t * 1.5, 0, 1)) + drop * t**2.3
    posterior = np.stack([u, v], 1)
    end = 0.36 + 0.022 * number
    span = np.clip(wall - end, 0.05, None)
    back_u = wall - span * (1 - np.cos(t * np.pi / 2)) ** 0.9
    back_v = turn + (0.075 + 0.010 * number) * np.sin(t * np.pi / 2) ** 1.1
    return posterior, np.stack([back_u, back_v], 1)


def _vessels(rng: np.random.Generator, rows: int, columns: int) -> Plane:
    """Pulmonary vessels: trees that grow from the hila outwards and get thinner."""
    canvas = Image.new("L", (columns, rows), 0)
    pen = ImageDraw.Draw(canvas)
    for side, hu, hv in ((-1, -0.16, 0.455), (1, 0.165, 0.43)):
        for angle in np.linspace(-1.25, 1.35, 11) + rng.normal(0, 0.09, 11):
            _grow(rng, pen, (hu, hv), side, float(angle), 0.017, (rows, columns))
    drawn = np.asarray(canvas, dtype=np.float64) / 255
    return ndimage.gaussian_filter(drawn, 0.0016 * columns) * 1.3


def _grow(
    rng: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    origin: tuple[float, float],
    side: int,
    angle: float,
    width: float,
    size: tuple[int, int],
) -> None:
    """Draw one vessel and its branches; ``angle`` 0 points outwards, positive downwards."""
    if width < 0.0022:
        return
    rows, columns = size
    length = rng.uniform(0.05, 0.10) * (0.6 + 24 * width)
    u = origin[0] + side * length * np.cos(angle)
    v = origin[1] + length * np.sin(angle) * columns / rows
    line = _pixels(np.array([origin, (u, v)]), rows, columns)
    shade = int(min(255, 90 + 9500 * width))
    pen.line(line, fill=shade, width=max(1, round(width / 2 * columns)))
    for turn in (rng.uniform(0.12, 0.5), -rng.uniform(0.12, 0.5)):
        _grow(rng, pen, (u, v), side, angle + turn, width * rng.uniform(0.62, 0.80), size)


def _expose(rng: np.random.Generator, total: Plane) -> NDArray[np.uint16]:
    """Blur as a detector does, add noise and the side marker, scale to 12 bits."""
    rows, columns = total.shape
    total = ndimage.gaussian_filter(np.clip(total, 0, None), 0.0011 * columns)
    tone = np.clip((total - 0.02) / 1.5, 0, 1) ** 0.95
    image = 0.03 + 0.93 * tone
    image += rng.normal(0, 1, image.shape) * (0.006 + 0.006 * (1 - image))
    if min(rows, columns) >= 64:
        font = ImageFont.load_default(size=columns * 0.05)
        marker = Image.new("L", (columns, rows), 0)
        ImageDraw.Draw(marker).text((columns * 0.06, rows * 0.06), "R", fill=255, font=font)
        image = np.maximum(image, np.asarray(marker) / 255 * 0.95)
    return np.rint(np.clip(image, 0, 1) * LEVELS).astype(np.uint16)
