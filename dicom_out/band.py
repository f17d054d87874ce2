"""The band below a picture: what is shown, by whom, and that nobody has reviewed it.

Nothing is ever written on the picture itself, so nothing hides anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicom_out.fonts import picture_font
from dicom_out.model_result import ModelDescription
from dicom_out.region import HOT

Picture = NDArray[np.uint8]
Line = tuple[str, tuple[int, int, int], bool]
"""A line of text, its colour, and whether it is bold."""

MIN_WIDTH = 480
"""Columns of the canvas at least, so that the band can be read under a tiny image."""

WHITE, GREY, AMBER, BACKGROUND = (255, 255, 255), (190, 190, 190), (255, 194, 60), (16, 16, 16)
_COLOUR_MAP = "inferno"  # perceptually uniform, and readable with every colour vision deficiency


def above_band(image: Picture, lines: Sequence[Line], caption: str | None = None) -> Picture:
    """Return the picture, in colour, with the band below it.

    Parameters
    ----------
    image
        uint8 [rows, columns, 3].
    lines
        What stands in the band.
    caption
        What the colour scale is a scale of; None leaves the scale out.

    Returns
    -------
    NDArray[np.uint8]
        [rows + band, max(columns, 480), 3], RGB. The first ``rows`` and ``columns`` are the image.
    """
    rows, columns = image.shape[:2]
    band = _band(max(columns, MIN_WIDTH), lines, caption)
    canvas = np.zeros((rows + band.shape[0], band.shape[1], 3), dtype=np.uint8)
    canvas[:rows, :columns] = image
    canvas[rows:] = band
    return canvas


def made_by(model: ModelDescription) -> list[Line]:
    """Return the lines that name the model and say that nobody has reviewed its result."""
    identity = model.identity
    name = f"{model.name}, version {identity.version}, sha256 {identity.digest[:12]}"
    lines: list[Line] = [(name, GREY, False), ("AI result - not reviewed", AMBER, True)]
    if model.content_qualification == "RESEARCH":
        lines.append(("Research use only", AMBER, True))
    return lines


def _band(width: int, lines: Sequence[Line], caption: str | None) -> Picture:
    """Draw the band: the colour scale with its caption if there is one, then the lines of text."""
    size = max(11, round(width / 44))
    lines = [
        (part, colour, bold)
        for text, colour, bold in lines
        for part in _wrapped(text, picture_font(size, bold=bold), width - 2 * size)
    ]
    line_height = round(size * 1.45)
    top = size + (0 if caption is None else round(size * 2.6))
    height = top + line_height * len(lines) + size
    band = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(band)
    if caption is not None:
        _draw_legend(band, pen, size, caption)
    for number, (text, colour, bold) in enumerate(lines):
        place = (size, top + line_height * number)
        pen.text(place, text, fill=colour, font=picture_font(size, bold=bold))
    return np.asarray(band)


def _draw_legend(band: Image.Image, pen: ImageDraw.ImageDraw, size: int, caption: str) -> None:
    """Draw the colour scale from 0 to 1, and say beside it what it is a scale of."""
    bar_width = round(band.width * 0.3)
    scale = Image.fromarray(colour_scale()[np.newaxis].repeat(size, axis=0))
    band.paste(scale.resize((bar_width, size)), (size, size))
    small = round(size * 0.8)
    for value in (0.0, HOT, 1.0):
        x = size + value * bar_width
        pen.line([(x, size * 2), (x, size * 2.25)], fill=GREY)
        font = picture_font(small, bold=False)
        pen.text((x, size * 2.3), f"{value:g}", fill=GREY, font=font, anchor="ma")
    font = _fitting(caption, small, band.width - 3 * size - bar_width, bold=False)
    place = (size * 2 + bar_width, size * 1.5)
    pen.text(place, caption, fill=GREY, font=font, anchor="lm")


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
    length = picture_font(size, bold=bold).getlength(text)
    if length > room:
        size = max(7, int(size * room / length))
    return picture_font(size, bold=bold)


@lru_cache(maxsize=1)
def colour_scale() -> Picture:
    """Return the colour map as uint8 [256, 3]."""
    table = matplotlib.colormaps[_COLOUR_MAP](np.linspace(0.12, 0.95, 256))[:, :3]
    return np.rint(table * 255).astype(np.uint8)
