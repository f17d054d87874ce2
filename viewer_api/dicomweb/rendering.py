"""Pictures of frames, as people see them (PS3.18 section 8.3.5)."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inference.errors import InferenceError
from inference.reading import open_image, read_display
from viewer_api.dicomweb.opened import OpenedInstance
from viewer_api.errors import NotAcceptableError, PageNotFoundError, QueryError

JPEG, PNG = "image/jpeg", "image/png"
QUALITY = 90
MAX_VIEWPORT = 8192
THUMBNAIL = 256
"""Longest side, in pixels."""
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is to look.

    ``window`` is center, width and function; ``viewport`` width and height to fit into, and of the
    source left, top, width and height, all in pixels.
    """

    media_type: str = JPEG
    quality: int = QUALITY
    window: tuple[float, float, str] | None = None
    viewport: tuple[int, int] | None = None
    source: tuple[float, float, float, float] | None = None


def parse_view(media_type: str, window: str, viewport: str, quality: int) -> View:
    """Read the parameters of an address.

    Raises
    ------
    QueryError
        One has no usable value.
    """
    fitted, source = _viewport(viewport)
    return View(media_type, quality, _window(window), fitted, source)


def _window(text: str) -> tuple[float, float, str] | None:
    if not text:
        return None
    values = text.split(",")
    function = _FUNCTIONS.get(values[2].lower() if len(values) == 3 else "linear")
    numbers = _numbers(values[:2])
    if len(values) not in (2, 3) or function is None or len(numbers) != 2 or numbers[1] <= 1:
        raise QueryError("window is center,width,function; the width is more than 1.")
    return numbers[0], numbers[1], function


def _viewport(
    text: str,
) -> tuple[tuple[int, int] | None, tuple[float, float, float, float] | None]:
    if not text:
        return None, None
    values = text.split(",")
    numbers = _numbers(values[:2])
    if len(values) not in (2, 6) or len(numbers) != 2:
        raise QueryError("viewport is width,height or width,height,x,y,width,height.")
    if not all(1 <= one <= MAX_VIEWPORT for one in numbers):
        raise QueryError(f"viewport needs 1 to {MAX_VIEWPORT} pixels.")
    fitted = int(numbers[0]), int(numbers[1])
    if len(values) == 2:
        return fitted, None
    source = _numbers([one or "0" for one in values[2:]])
    if len(source) != 4:
        raise QueryError("viewport is width,height or width,height,x,y,width,height.")
    return fitted, (source[0], source[1], source[2], source[3])


def _numbers(texts: list[str]) -> list[float]:
    try:
        found = [float(one) for one in texts]
    except ValueError:
        return []
    return found if all(math.isfinite(one) for one in found) else []


def render_frame(instance: OpenedInstance, number: int, view: View) -> bytes:
    """Return a frame as a JPEG or PNG file.

    Raises
    ------
    PageNotFoundError
        There is no such frame.
    NotAcceptableError
        It can't be drawn.
    BusyError
        Too many images are decoded at this moment.
    """
    if instance.pixels is None:
        raise NotAcceptableError("The instance is no image; there is nothing to draw.")
    if not 1 <= number <= instance.frames:
        raise PageNotFoundError("The instance has no such frame.")
    try:
        with instance.room_for_a_frame():
            instance.file.seek(0)
            values = read_display(instance.file, open_image(instance.file), number, view.window)
            picture = Image.fromarray(np.rint(values * 255).astype(np.uint8))
            return _file(_fit(picture, view), view)
    except InferenceError as error:
        raise NotAcceptableError(str(error)) from error


def _fit(picture: Image.Image, view: View) -> Image.Image:
    if view.source is not None:
        left, top, width, height = view.source
        box = (
            max(0.0, left),
            max(0.0, top),
            min(picture.width, left + (abs(width) or picture.width)),
            min(picture.height, top + (abs(height) or picture.height)),
        )
        if box[2] - box[0] < 1 or box[3] - box[1] < 1:
            raise QueryError("viewport: the part of the image lies outside of it.")
        picture = picture.crop((int(box[0]), int(box[1]), int(box[2]), int(box[3])))
    if view.viewport is not None:
        scale = min(view.viewport[0] / picture.width, view.viewport[1] / picture.height)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return picture


def _file(picture: Image.Image, view: View) -> bytes:
    buffer = io.BytesIO()
    if view.media_type == PNG:
        picture.save(buffer, "PNG", compress_level=3)
    else:
        picture.save(buffer, "JPEG", quality=view.quality)
    return buffer.getvalue()
