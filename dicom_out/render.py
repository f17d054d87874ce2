"""The picture of a result: colours over the source image, and a band below that says what it is.

The picture area keeps the source's resolution and place: pixel (row, column) of the result is pixel
(row, column) of the source. All writing stands in a band below it, so nothing hides anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dicom_out.band import AMBER, BACKGROUND, GREY, WHITE, Line, above_band, colour_scale, made_by
from dicom_out.fonts import picture_font
from dicom_out.measurements import largest_slice
from dicom_out.model_result import ImageResult, ModelDescription, VolumeResult
from dicom_out.orientation import opposite, patient_orientation
from dicom_out.overlays import Colour, colour_of, colours_of, draw_boxes, draw_regions
from dicom_out.region import hot_outline
from dicom_out.words import Statement, of_box, of_finding, of_outline, of_rest, of_segment
from ledger.domain import Finding, Heatmap

Picture = NDArray[np.uint8]

MONTAGE_TILES = 9
"""Slices of a montage at most."""
MONTAGE_SIDE = 256
"""Pixels of a tile's longer side at least; smaller slices are enlarged by whole numbers."""

MAX_SLICES = 24
"""Slices of a series that get a picture of their own at most."""

MAX_OPACITY = 0.42
"""Share of colour over the hottest place: anatomy stays visible everywhere."""

FAINT = 0.3
"""How much of that is left when the finding is below its threshold."""

MAX_LINES = 6
"""Findings or boxes written out in the band; the report holds all."""

BLOCK_ROWS = 256
"""Rows blended at a time, which bounds the memory for big images."""


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
        As :func:`dicom_out.band.above_band`.
    """
    rows, columns = display.shape[:2]
    shown = next((f for f in findings if heatmap is not None and f.label == heatmap.label), None)
    opacity = MAX_OPACITY * (1.0 if shown is None or shown.is_positive else FAINT)
    caption = None if heatmap is None else _caption(heatmap, shown)
    lines = [*_finding_lines(findings), *made_by(model)]
    canvas = above_band(_in_colour(display), lines, caption)
    if heatmap is not None:
        _blend(canvas[:rows, :columns], heatmap.array, opacity)
        if shown is not None and shown.is_positive:
            _draw_outline(canvas[:rows, :columns], heatmap.array)
    return canvas


def render_image(result: ImageResult, model: ModelDescription) -> Picture:
    """Draw everything a model says about an image over it, and the band below.

    Returns
    -------
    NDArray[np.uint8]
        As :func:`dicom_out.band.above_band`.
    """
    prediction = result.prediction
    segments, boxes = prediction.segments, prediction.boxes
    if not segments and not boxes:
        return render_heatmap(result.display, prediction.heatmap, prediction.findings, model)
    labels, colours = list(dict.fromkeys(box.label for box in boxes)), colours_of(segments)
    best = sorted(boxes, key=lambda box: -box.score)[:MAX_LINES]
    lines = [
        *_finding_lines(prediction.findings),
        *(
            (of_box(box, result.source).text, colour_of(labels.index(box.label)), True)
            for box in best
        ),
        *_rest(len(boxes) - len(best)),
        *_in_colours([of_outline(segment, result.source) for segment in segments], colours),
        *made_by(model),
    ]
    image = np.array(_in_colour(result.display))
    draw_regions(image, [segment.mask for segment in segments], colours)
    draw_boxes(image, boxes, labels)
    return above_band(image, lines)


def slices_that_matter(result: VolumeResult) -> list[int]:
    """Return the slices with a picture of their own: where something was found, each maximum too.

    At most `MAX_SLICES`, evenly chosen.
    """
    found = [segment for segment in result.prediction.segments if segment.mask.any()]
    if not found:
        return []
    covered = np.flatnonzero(np.any([one.mask.any(axis=(1, 2)) for one in found], axis=0))
    largest = {largest_slice(segment) for segment in found}
    room = max(0, MAX_SLICES - len(largest))
    return sorted({*_evenly(covered, room), *sorted(largest)[:MAX_SLICES]})


def render_slice(result: VolumeResult, index: int, model: ModelDescription) -> Picture:
    """Draw one slice at its own resolution, with the regions on it, and the band below."""
    segments = result.prediction.segments
    colours = colours_of(segments)
    image = np.array(_in_colour(result.display[index]))
    draw_regions(image, [segment.mask[index] for segment in segments], colours)
    here: list[Line] = [
        (segment.concept.meaning, colour, True)
        for segment, colour in zip(segments, colours, strict=True)
        if segment.mask[index].any()
    ]
    title: Line = (f"{_slice_name(result, index)}; {len(result.display)} slices", GREY, False)
    return above_band(image, [title, *here, *made_by(model)])


def render_montage(result: VolumeResult, model: ModelDescription) -> tuple[Picture, list[int]]:
    """Draw slices that matter side by side, in colour, with the band below.

    Returns
    -------
    tuple
        uint8 [rows, columns, 3] (RGB), and the positions of the slices shown, in their order.
    """
    segments = result.prediction.segments
    colours = colours_of(segments)
    covered = np.any([segment.mask.any(axis=(1, 2)) for segment in segments], axis=0)
    candidates = np.flatnonzero(covered) if covered.any() else np.arange(len(result.display))
    shown = _evenly(candidates, MONTAGE_TILES)
    tiles = []
    for index in shown:
        tile = np.array(_in_colour(result.display[index]))
        draw_regions(tile, [segment.mask[index] for segment in segments], colours)
        tiles.append(_named(tile, _slice_name(result, index)))
    said = _in_colours([of_segment(segment, result) for segment in segments], colours)
    said += [(one.text, AMBER, True) for one in of_rest(result)]
    return above_band(_grid(tiles), [*said, *made_by(model)]), shown


def _evenly(candidates: NDArray[np.intp], count: int) -> list[int]:
    """Return at most `count` of the candidates, first and last among them."""
    places = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
    return [int(candidates[round(place)]) for place in places]


def _slice_name(result: VolumeResult, index: int) -> str:
    """Return a slice's number, and which sides of the patient lie at its left and right edge."""
    sides = patient_orientation(*result.place_of(index))
    where = f", {opposite(sides[0])} → {sides[0]}" if sides else ""
    return f"slice {index + 1}{where}"


def _grid(tiles: Sequence[Picture]) -> Picture:
    """Lay equal pictures side by side, in rows of about as many as there are rows."""
    across = math.ceil(math.sqrt(len(tiles)))
    rows, columns = tiles[0].shape[:2]
    canvas = np.zeros((math.ceil(len(tiles) / across) * rows, across * columns, 3), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // across * rows, number % across * columns
        canvas[top : top + rows, left : left + columns] = tile
    return canvas


def _named(tile: Picture, name: str) -> Picture:
    """Enlarge a small slice and put its name above it, outside the anatomy."""
    factor = max(1, math.ceil(MONTAGE_SIDE / max(tile.shape[:2])))
    enlarged = tile.repeat(factor, axis=0).repeat(factor, axis=1)
    strip = Image.new("RGB", (enlarged.shape[1], 18), BACKGROUND)
    pen = ImageDraw.Draw(strip)
    pen.text((4, 2), name, fill=GREY, font=picture_font(12, bold=False))
    return np.concatenate([np.asarray(strip), enlarged])


def _in_colour(display: Picture) -> Picture:
    return display if display.ndim == 3 else display[:, :, np.newaxis].repeat(3, axis=2)


def _blend(image: Picture, heat: NDArray[np.float32], opacity: float) -> None:
    """Mix colours into ``image`` in place; cold places keep their grey values exactly."""
    colours = colour_scale().astype(np.float32)
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
    ImageDraw.Draw(drawing).line(points, fill=WHITE, width=max(1, round(max(image.shape) / 700)))
    image[:] = np.asarray(drawing)


def _caption(heatmap: Heatmap, shown: Finding | None) -> str:
    about = shown.concept.meaning if shown else heatmap.label
    faint = "" if shown is None or shown.is_positive else ", faint: below threshold"
    return f"Grad-CAM for {about}{faint}; an explanation, not a segmentation"


def _finding_lines(findings: Sequence[Finding]) -> list[Line]:
    ranked = sorted(findings, key=lambda f: (not f.is_positive, -f.probability))[:MAX_LINES]
    lines: list[Line] = [(of_finding(finding).text, WHITE, True) for finding in ranked]
    return [*lines, *_rest(len(findings) - len(ranked))]


def _rest(count: int) -> list[Line]:
    return [(f"and {count} more in the report", GREY, False)] if count > 0 else []


def _in_colours(said: Sequence[Statement], colours: Sequence[Colour]) -> list[Line]:
    """Return statements in the colours of their regions."""
    return [(one.text, colour, True) for one, colour in zip(said, colours, strict=True)]
