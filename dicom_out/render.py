"""The picture of a result: colours over the source image, and a band below that says what it is.

The picture area keeps the source's resolution and place: pixel (row, column) of the result is pixel
(row, column) of the source. All writing stands in a band below it, so nothing hides anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from dicom_out.model_result import (
    ModelDescription,
    VolumeResult,
    box_sentence,
    segment_sentence,
    sentence,
)
from dicom_out.overlays import colour_of, draw_boxes, draw_regions
from dicom_out.region import HOT, hot_outline
from ledger.domain import Finding, Heatmap, Prediction, Segment

Picture = NDArray[np.uint8]
Line = tuple[str, tuple[int, int, int], bool]
"""A line of text, its colour, and whether it is bold."""

MONTAGE_TILES = 9
"""Slices of a montage at most."""
MONTAGE_SIDE = 256
"""Pixels of a tile's longer side at least; smaller slices are enlarged by whole numbers."""

MIN_WIDTH = 480
"""Columns of the canvas at least, so that the band can be read under a tiny image."""

MAX_OPACITY = 0.42
"""Share of colour over the hottest place: anatomy stays visible everywhere."""

FAINT = 0.3
"""How much of that is left when the finding is below its threshold."""

MAX_FINDINGS = 6
"""Findings written out in the band; the report holds all."""

BLOCK_ROWS = 256
"""Rows blended at a time, which bounds the memory for big images."""

_WHITE, _GREY, _AMBER, _BACKGROUND = (255, 255, 255), (190, 190, 190), (255, 194, 60), (16, 16, 16)
_COLOUR_MAP = "inferno"  # perceptually uniform, and readable with every colour vision deficiency


def render_heatmap(
    display: Picture,
    heatmap: Heatmap | None,
    findings: Sequence[Finding],
    model: ModelDescription,
) -> Picture:
    """Draw the heatmap over the image and the band below it.

    Parameters
    ----------
    display
        uint8 [rows, columns] or [rows, columns, 3], as a viewer shows the source image.
    heatmap
        On the grid of ``display``; None leaves the image uncoloured.
    findings
        Written in the band.
    model
        Named in the band with version and digest.

    Returns
    -------
    NDArray[np.uint8]
        [rows + band, max(columns, 480), 3], RGB. The first ``rows`` and ``columns`` are the image.
    """
    rows, columns = display.shape[:2]
    shown = next((f for f in findings if heatmap is not None and f.label == heatmap.label), None)
    opacity = MAX_OPACITY * (1.0 if shown is None or shown.is_positive else FAINT)
    width = max(columns, MIN_WIDTH)
    caption = None if heatmap is None else _caption(heatmap, shown)
    band = _band(width, _lines(findings, model), caption)
    canvas = _above_band(_in_colour(display), band)
    if heatmap is not None:
        _blend(canvas[:rows, :columns], heatmap.array, opacity)
        if shown is not None and shown.is_positive:
            _draw_outline(canvas[:rows, :columns], heatmap.array)
    return canvas


def render_prediction(
    display: Picture, prediction: Prediction, source: Dataset, model: ModelDescription
) -> Picture:
    """Draw everything a model says about an image over it, and the band below.

    Parameters
    ----------
    display
        uint8 [rows, columns] or [rows, columns, 3], as a viewer shows the source image.
    source
        Header of the image; it tells how large a pixel is.

    Returns
    -------
    NDArray[np.uint8]
        As :func:`render_heatmap`.
    """
    segments, boxes = prediction.segments, prediction.boxes
    if not segments and not boxes:
        return render_heatmap(display, prediction.heatmap, prediction.findings, model)
    labels = list(dict.fromkeys(box.label for box in boxes))
    lines = [
        *_finding_lines(prediction.findings),
        *((box_sentence(box), colour_of(labels.index(box.label)), True) for box in boxes),
        *_segment_lines(segments, source),
        *_made_by(model),
    ]
    image = np.array(_in_colour(display))
    draw_regions(image, [segment.mask for segment in segments])
    draw_boxes(image, boxes, labels)
    return _above_band(image, _band(max(image.shape[1], MIN_WIDTH), lines, None))


def render_montage(result: VolumeResult, model: ModelDescription) -> tuple[Picture, list[int]]:
    """Draw the slices that matter side by side, in colour, with the band below.

    Returns
    -------
    tuple
        uint8 [rows, columns, 3] (RGB), and the positions of the slices shown, in their order.
    """
    segments = result.prediction.segments
    covered = np.any([segment.mask.any(axis=(1, 2)) for segment in segments], axis=0)
    candidates = np.flatnonzero(covered) if covered.any() else np.arange(len(result.display))
    places = np.linspace(0, len(candidates) - 1, min(MONTAGE_TILES, len(candidates)))
    shown = [int(candidates[round(place)]) for place in places]
    tiles = []
    for index in shown:
        tile = np.array(_in_colour(result.display[index]))
        draw_regions(tile, [segment.mask[index] for segment in segments])
        tiles.append(_numbered(tile, index + 1))
    image = _grid(tiles)
    lines = [*_segment_lines(segments, result.sources[0]), *_made_by(model)]
    return _above_band(image, _band(max(image.shape[1], MIN_WIDTH), lines, None)), shown


def _grid(tiles: Sequence[Picture]) -> Picture:
    """Lay equal pictures side by side, in rows of about as many as there are rows."""
    across = math.ceil(math.sqrt(len(tiles)))
    rows, columns = tiles[0].shape[:2]
    canvas = np.zeros((math.ceil(len(tiles) / across) * rows, across * columns, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * rows, number % across * columns
        canvas[top : top + rows, left : left + columns] = tile
    return canvas


def _numbered(tile: Picture, number: int) -> Picture:
    """Enlarge a small slice and put its number above it, outside the anatomy."""
    factor = max(1, math.ceil(MONTAGE_SIDE / max(tile.shape[:2])))
    enlarged = tile.repeat(factor, axis=0).repeat(factor, axis=1)
    strip = Image.new("RGB", (enlarged.shape[1], 18), _BACKGROUND)
    pen = ImageDraw.Draw(strip)
    pen.text((4, 2), f"slice {number}", fill=_GREY, font=_font(12, bold=False))
    return np.concatenate([np.asarray(strip), enlarged])


def _in_colour(display: Picture) -> Picture:
    return display if display.ndim == 3 else display[:, :, np.newaxis].repeat(3, axis=2)


def _above_band(image: Picture, band: Picture) -> Picture:
    rows, columns = image.shape[:2]
    canvas = np.zeros((rows + band.shape[0], band.shape[1], 3), dtype=np.uint8)
    canvas[:rows, :columns] = image
    canvas[rows:] = band
    return canvas


def _blend(image: Picture, heat: NDArray[np.float32], opacity: float) -> None:
    """Mix colours into ``image`` in place; cold places keep their grey values exactly."""
    colours = _colours().astype(np.float32)
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    strength = (opacity * np.clip((levels - 0.2) / 0.7, 0, 1) ** 1.3).astype(np.float32)
    for start in range(0, image.shape[0], BLOCK_ROWS):
        block = image[start : start + BLOCK_ROWS]
        level = np.rint(np.clip(heat[start : start + BLOCK_ROWS], 0, 1) * 255).astype(np.uint8)
        share = strength[level][:, :, np.newaxis]
        block[:] = np.rint(block + share * (colours[level] - block)).astype(np.uint8)


def _draw_outline(image: Picture, heat: NDArray[np.float32]) -> None:
    """Draw the border of the hot region, the same one as in the report, as a thin line."""
    outline = hot_outline(heat)
    if outline is None:
        return
    drawing = Image.fromarray(image)
    points = [(float(x) - 0.5, float(y) - 0.5) for x, y in outline]
    ImageDraw.Draw(drawing).line(points, fill=_WHITE, width=max(1, round(max(image.shape) / 700)))
    image[:] = np.asarray(drawing)


def _caption(heatmap: Heatmap, shown: Finding | None) -> str:
    about = shown.concept.meaning if shown else heatmap.label
    faint = "" if shown is None or shown.is_positive else ", faint: below threshold"
    return f"Grad-CAM for {about}{faint}; an explanation, not a segmentation"


def _lines(findings: Sequence[Finding], model: ModelDescription) -> list[Line]:
    """Return the band's lines of text with colour and weight."""
    return [*_finding_lines(findings), *_made_by(model)]


def _finding_lines(findings: Sequence[Finding]) -> list[Line]:
    ranked = sorted(findings, key=lambda f: (not f.is_positive, -f.probability))
    lines: list[Line] = [(sentence(finding), _WHITE, True) for finding in ranked[:MAX_FINDINGS]]
    if len(ranked) > MAX_FINDINGS:
        lines.append((f"and {len(ranked) - MAX_FINDINGS} more in the report", _GREY, False))
    return lines


def _segment_lines(segments: Sequence[Segment], source: Dataset) -> list[Line]:
    return [
        (segment_sentence(segment, source), colour_of(index), True)
        for index, segment in enumerate(segments)
    ]


def _made_by(model: ModelDescription) -> list[Line]:
    identity = model.identity
    made_by = f"{model.name}, version {identity.version}, sha256 {identity.digest[:12]}"
    lines: list[Line] = [(made_by, _GREY, False), ("AI result - not reviewed", _AMBER, True)]
    if model.content_qualification == "RESEARCH":
        lines.append(("Research use only", _AMBER, True))
    return lines


def _band(width: int, lines: Sequence[Line], caption: str | None) -> Picture:
    """Draw the band: the colour scale with its caption if there is one, then the lines of text."""
    size = max(11, round(width / 44))
    lines = [
        (part, colour, bold)
        for text, colour, bold in lines
        for part in _wrapped(text, _font(size, bold=bold), width - 2 * size)
    ]
    line_height = round(size * 1.45)
    top = size + (0 if caption is None else round(size * 2.6))
    height = top + line_height * len(lines) + size
    band = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(band)
    if caption is not None:
        _draw_legend(band, pen, size, caption)
    for number, (text, colour, bold) in enumerate(lines):
        place = (size, top + line_height * number)
        pen.text(place, text, fill=colour, font=_font(size, bold=bold))
    return np.asarray(band)


def _draw_legend(band: Image.Image, pen: ImageDraw.ImageDraw, size: int, caption: str) -> None:
    """Draw the colour scale from 0 to 1, and say beside it what it is a scale of."""
    bar_width = round(band.width * 0.3)
    scale = Image.fromarray(_colours()[np.newaxis].repeat(size, axis=0))
    band.paste(scale.resize((bar_width, size)), (size, size))
    small = round(size * 0.8)
    for value in (0.0, HOT, 1.0):
        x = size + value * bar_width
        pen.line([(x, size * 2), (x, size * 2.25)], fill=_GREY)
        font = _font(small, bold=False)
        pen.text((x, size * 2.3), f"{value:g}", fill=_GREY, font=font, anchor="ma")
    font = _fitting(caption, small, band.width - 3 * size - bar_width, bold=False)
    place = (size * 2 + bar_width, size * 1.5)
    pen.text(place, caption, fill=_GREY, font=font, anchor="lm")


def _wrapped(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """Break a text into lines of at most ``room`` pixels, between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _fitting(text: str, size: int, room: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """Return the font at ``size`` pixels, or smaller so that the text fits into ``room``."""
    length = _font(size, bold=bold).getlength(text)
    if length > room:
        size = max(7, int(size * room / length))
    return _font(size, bold=bold)


@lru_cache(maxsize=64)
def _font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which comes with matplotlib and holds Latin, Greek and Cyrillic."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), max(1, size))


@lru_cache(maxsize=1)
def _colours() -> Picture:
    """Return the colour map as uint8 [256, 3]."""
    table = matplotlib.colormaps[_COLOUR_MAP](np.linspace(0.12, 0.95, 256))[:, :3]
    return np.rint(table * 255).astype(np.uint8)
