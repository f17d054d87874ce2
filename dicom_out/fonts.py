"""Fonts of pictures and papers: DejaVu for Latin, Greek and Cyrillic, Nanum and IPAex for the East.

All come with Python packages and may be passed on: DejaVu (Bitstream Vera licence, within
matplotlib), Nanum Gothic (OFL, within koreanize-matplotlib), IPAex Gothic (IPA font licence, within
matplotlib-fontja). A letter that none of them has becomes a white square.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

from fontTools.ttLib import TTFont as FontFile
from PIL import ImageFont
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR, BOLD = "DejaVuSans", "DejaVuSans-Bold"
MISSING = "\u25a1"  # white square, in DejaVu

_FILES = {
    REGULAR: ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    BOLD: ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"),
    "IPAexGothic": ("matplotlib_fontja", "fonts/ipaexg.ttf"),
    "NanumGothic": ("koreanize_matplotlib", "fonts/NanumGothic.ttf"),
}
_EASTERN = ("IPAexGothic", "NanumGothic")


def font_path(name: str) -> Path:
    """Return a font's file, without importing the package that has it."""
    package, place = _FILES[name]
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / place


@lru_cache(maxsize=64)
def picture_font(size: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans of a size in pixels."""
    return ImageFont.truetype(str(font_path(BOLD if bold else REGULAR)), max(1, size))


def register_fonts() -> None:
    """Make all fonts known to reportlab, once."""
    known = set(pdfmetrics.getRegisteredFontNames())
    for name in _FILES.keys() - known:
        pdfmetrics.registerFont(TTFont(name, str(font_path(name))))


def marked_up(text: str, *, bold: bool = False) -> str:
    """Return text as reportlab's markup, each run of letters in a font that has them."""
    first = BOLD if bold else REGULAR
    runs = groupby(text, key=lambda letter: _font_of(letter, first))
    return "".join(_run(name, "".join(letters)) for name, letters in runs)


def _run(name: str | None, letters: str) -> str:
    if name is None:
        return MISSING * len(letters)
    return f'<font name="{name}">{escape(letters)}</font>'


def _font_of(letter: str, first: str) -> str | None:
    return next((name for name in (first, *_EASTERN) if ord(letter) in _letters(name)), None)


@lru_cache(maxsize=8)
def _letters(name: str) -> frozenset[int]:
    """Return the code points that a font has a glyph for."""
    with FontFile(font_path(name), lazy=True) as file:
        return frozenset(file.getBestCmap())
