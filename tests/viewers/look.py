"""A look at a study in OHIF with a headless browser: one series after the other."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pacsight.selftest import FIRST, LAST, SLICES
from tests.peers.process import program

SETTLE_MS = 4000
MOST_LOOKS = 10
COLOURED = 40
"""Difference of red and blue from which a pixel is no grey."""
SIZE = {"width": 1400, "height": 900}
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist", "--disable-dev-shm-usage", "--disable-background-networking",
]  # fmt: skip
_PROMPT = (
    '[data-cy="yes-hydrate-btn"], [data-cy="prompt-begin-tracking-yes-btn"], '
    '[data-cy="viewport-notification"] button:has-text("Yes"), button:text-is("Load")'
)
_SETS = """() => window.services.displaySetService.getActiveDisplaySets().map(set => ({
    uid: set.displaySetInstanceUID, series: set.SeriesInstanceUID, modality: set.Modality,
    description: set.SeriesDescription, unsupported: !!set.unsupported}))"""
_STATE = """uid => {
    const s = window.services, set = s.displaySetService.getDisplaySetByUID(uid) || {};
    return {
      loaded: !!set.isLoaded,
      segments: s.segmentationService.getSegmentations().flatMap(
        one => Object.values(one.segments || {}).filter(Boolean).map(part => part.label)),
      regions: (set.measurements || []).map(one => ({
        loaded: !!one.loaded, labels: (one.labels || []).map(l => l.label + ' ' + l.value)})),
    }}"""


@dataclass(frozen=True)
class Colours:
    """Pixels of the viewport that are not grey: how many, and their mean column."""

    warm: int
    warm_column: float
    cool: int
    cool_column: float


@dataclass
class Seen:
    """What the viewer made of one series."""

    modality: str
    description: str
    picture: Path
    coloured: dict[int, Colours]
    """by slice: of a SEG on all, else on the first"""
    state: dict[str, Any]
    complaints: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Page]:
    """A page of Debian's Chromium, drawing in software."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(program("chromium")), args=FLAGS)
        try:
            yield chromium.new_page(viewport=SIZE)  # type: ignore[arg-type]
        finally:
            chromium.close()


def look(
    page: Page, base: str, study_uid: str, folder: Path, modalities: Sequence[str] = ()
) -> list[Seen]:
    """Open the series of a study, each on a fresh page: one must not spoil the next.

    Only those of some modalities, if any are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _open(page, base, study_uid)
    page.screenshot(path=folder / "00-open.png")
    sets = page.evaluate(_SETS)
    return [
        _look_at(page, base, study_uid, folder / f"{number:02}-{one['modality']}.png", one)
        for number, one in enumerate(sets, 1)
        if not modalities or one["modality"] in modalities
    ]


def _open(page: Page, base: str, study_uid: str) -> None:
    page.goto(f"{base}/viewer?StudyInstanceUIDs={study_uid}", wait_until="domcontentloaded")
    page.wait_for_selector('[data-cy="viewport-grid"] canvas', timeout=90_000)
    page.wait_for_timeout(SETTLE_MS)
    for label in ("Confirm and Hide", "Don't show again", "Skip all", "Skip"):
        button = page.get_by_role("button", name=label, exact=True)
        if button.count():
            button.first.click()


def _look_at(page: Page, base: str, study_uid: str, picture: Path, one: dict[str, Any]) -> Seen:
    complaints: list[str] = []

    def complain(error: object) -> None:
        complaints.append(str(error)[:200])

    page.on("pageerror", complain)
    _open(page, base, study_uid)
    uid = next(s["uid"] for s in page.evaluate(_SETS) if s["series"] == one["series"])
    thumbnail = page.locator(f'[id="thumbnail-{uid}"]').first
    thumbnail.scroll_into_view_if_needed()
    thumbnail.dblclick()
    page.wait_for_timeout(SETTLE_MS)
    prompt = page.locator(_PROMPT)
    if one["modality"] == "SEG" and prompt.count():
        prompt.first.click()
        page.wait_for_timeout(SETTLE_MS)
    if one["modality"] == "SEG":  # the list of segments
        panel = page.locator('[data-cy^="panelSegmentation"]').first
        if panel.count():
            panel.click()
            page.wait_for_timeout(1000)
    coloured = _all_slices(page, picture) if one["modality"] == "SEG" else {}
    if not coloured:
        page.screenshot(path=picture)
        coloured = {1: _colours(page)}
    page.remove_listener("pageerror", complain)
    return Seen(
        one["modality"],
        one["description"] or "",
        picture,
        coloured,
        {**page.evaluate(_STATE, uid), "unsupported": one["unsupported"]},
        complaints,
    )


def _all_slices(page: Page, picture: Path) -> dict[int, Colours]:
    """Turn the wheel down and up until every slice was seen; take a picture of the middle one."""
    grid = page.locator('[data-cy="viewport-grid"]')
    found: dict[int, Colours] = {}
    for turn in [100] * 2 * SLICES + [-100] * 2 * SLICES:
        number = int(re.findall(r"\((\d+)/\d+\)", grid.inner_text())[0])
        if number not in found:
            found[number] = _settled(page)
            if number == (FIRST + LAST) // 2:
                page.screenshot(path=picture)
        if len(found) == SLICES:
            break
        grid.hover()
        page.mouse.wheel(0, turn)
        page.wait_for_timeout(600)
    return found


def _settled(page: Page) -> Colours:
    """Look until the colours stay: the overlay is drawn after the slice."""
    looks = [_colours(page)]
    while len(looks) < 2 or looks[-1] != looks[-2]:
        page.wait_for_timeout(700)
        looks.append(_colours(page))
        if len(looks) > MOST_LOOKS:
            break
    return looks[-1]


def _colours(page: Page) -> Colours:
    png = page.locator('[data-cy="viewport-grid"]').screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    warmth = pixels[..., 0] - pixels[..., 2]  # red against blue
    columns = [np.nonzero(kind)[1] for kind in (warmth > COLOURED, warmth < -COLOURED)]
    warm, cool = ((len(found), float(found.mean()) if len(found) else 0.0) for found in columns)
    return Colours(*warm, *cool)
