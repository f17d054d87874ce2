"""A look at a study in OHIF with a headless browser: one series after the other."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.peers.process import program

SETTLE_MS = 4000
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


@dataclass
class Seen:
    """What the viewer made of one series."""

    modality: str
    description: str
    picture: Path
    coloured: int
    """pixels of the viewport that are not grey"""
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


def look(page: Page, base: str, study_uid: str, folder: Path) -> list[Seen]:
    """Open every series of a study, each on a fresh page: one must not spoil the next."""
    folder.mkdir(parents=True, exist_ok=True)
    _open(page, base, study_uid)
    page.screenshot(path=folder / "00-open.png")
    sets = page.evaluate(_SETS)
    return [
        _look_at(page, base, study_uid, folder / f"{number:02}-{one['modality']}.png", one)
        for number, one in enumerate(sets, 1)
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
    if one["modality"] in ("SEG", "SR"):
        page.screenshot(path=picture.with_stem(f"{picture.stem}-preview"))
    prompt = page.locator(_PROMPT)
    if one["modality"] == "SEG" and prompt.count():
        prompt.first.click()
        page.wait_for_timeout(SETTLE_MS)
    if one["modality"] == "SEG":  # the list of segments
        panel = page.locator('[data-cy^="panelSegmentation"]').first
        if panel.count():
            panel.click()
            page.wait_for_timeout(1000)
    page.screenshot(path=picture)
    page.remove_listener("pageerror", complain)
    grid = page.locator('[data-cy="viewport-grid"]').screenshot()
    return Seen(
        one["modality"],
        one["description"] or "",
        picture,
        _coloured(grid),
        {**page.evaluate(_STATE, uid), "unsupported": one["unsupported"]},
        complaints,
    )


def _coloured(png: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int(((pixels.max(axis=2) - pixels.min(axis=2)) > 40).sum())
