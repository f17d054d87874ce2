"""The web app in a real browser, on a whole running Pacsight."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import zipfile
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)
from pydicom import Dataset, dcmread
from pydicom.uid import EncapsulatedPDFStorage

from dicom_out.delivery import send
from ledger.database import transaction
from pacsight.samples import SamplePatient, chest_radiograph
from pacsight.waiting import is_listening
from tests.inference.stacks import UID_ROOT, StackMade
from tests.pacsight.models import write_volume_model
from tests.peers.process import free_port, program, wait_until
from tests.peers.storage_scp import StorageScp
from tests.service import REPOSITORY, Service
from tests.viewer_api.drawn import ct_zip, fundus_jpeg, volume_nifti, xray_png
from tests.viewer_api.held import as_file
from tests.viewer_api.serving import token_of
from viewer_api.accounts import add_user

pytestmark = [pytest.mark.peer, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery"
PATIENCE_MS = 120_000
SLICES = 6
SERIOUS = {"serious", "critical"}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def pacs() -> Iterator[StorageScp]:
    pacs = StorageScp("ORTHANC")
    pacs.start()
    yield pacs
    pacs.stop()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pacs: StorageScp) -> Iterator[Service]:
    models = tmp_path_factory.mktemp("models")
    write_volume_model(models)
    for name in ("cxr-pneumonia", "fundus-disease"):
        shutil.copytree(REPOSITORY / "checkpoints" / name, models / name)
    service = Service(
        tmp_path_factory.mktemp("service"), pacs_port=pacs.port, models_dir=str(models),
        web={"port": free_port()},
    )  # fmt: skip
    command = [sys.executable, "-m", "pacsight", "--config", str(service.config), "users", "add"]
    subprocess.run(
        [*command, "adam", "--role", "administrator"],
        input=f"{PASSWORD}\n", text=True, check=True, cwd=REPOSITORY, capture_output=True,
    )  # fmt: skip
    with transaction(service.ledger) as session:
        for login, role in (("rosa", "radiologist"), ("anna", "staff")):
            add_user(
                session, login=login, name=login, role=role, password=PASSWORD, actor="test",
                now=0.0,
            )  # fmt: skip
    service.start("serve")
    wait_until(lambda: is_listening(service.settings.web.port), "the web app", timeout_s=60)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(service: Service, chromium: Browser) -> Iterator[Open]:
    """Return a function that signs someone in and fails the test on errors in the console."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def open_one(login: str, **options: object) -> Page:
        url = f"http://127.0.0.1:{service.settings.web.port}"
        context = chromium.new_context(base_url=url, locale="en-GB", **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: errors.append(said.text) if is_fault(said) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("/login")
        page.fill("[name=login]", login)
        page.fill("[name=password]", PASSWORD)
        page.click("main button.primary")
        page.wait_for_url("**/")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


def is_fault(said: ConsoleMessage) -> bool:
    """Tell whether the browser complains about us; refused files are answered with 415 or 422."""
    return said.type == "error" and not re.search(r"status of (415|422)", said.text)


def hand_in(page: Page, *files: Path, model: str = "") -> None:
    page.goto("/upload")
    page.set_input_files("#files", [str(file) for file in files])
    expect(page.locator("#list li[data-kind=taken]").first).to_be_visible()
    expect(page.locator("#go")).to_be_enabled()
    if model:
        page.select_option("#model", model)
    page.click("#go")


def overlay_is_drawn(page: Page, switch: str) -> bool:
    """Tell whether the canvas changes when a layer is switched off."""
    canvas, box = page.locator("#canvas"), page.locator(switch).first
    before = canvas.screenshot()
    box.uncheck()
    after = canvas.screenshot()
    box.check()
    return before != after


def test_picture_of_a_chest_is_recognised_answered_reviewed_and_sent(
    open_page: Open, pacs: StorageScp, tmp_path: Path
) -> None:
    page = open_page("rosa")
    hand_in(page, xray_png(tmp_path / "chest.png"))
    page.wait_for_url("**/studies/**")
    expect(page.locator(".answer h2")).to_have_text("Pneumonia on chest radiographs")
    expect(page.locator(".state.done").first).to_be_visible()
    expect(page.locator("#canvas[data-layers='1']")).to_be_visible()
    assert overlay_is_drawn(page, "[data-layer$=heatmap]")
    assert pacs.attempts == 0, "nobody wished it to be sent"

    page.fill("[name=comment]", "Agreed <b>fully</b>")
    page.click("button[value=accepted]")
    expect(page.locator(".review .state.accepted")).to_be_visible()
    expect(page.locator(".review p").first).to_contain_text("Agreed <b>fully</b>")

    page.click("summary:has-text('Download')")
    with page.expect_download() as report:
        page.click("text=DICOM SR")
    assert dcmread(report.value.path()).Modality == "SR"
    with page.expect_download() as document:
        page.click("a[href$='.pdf']")
    assert document.value.path().read_bytes().startswith(b"%PDF-")
    with page.expect_download() as archive:
        page.click("text=All DICOM results")
    with zipfile.ZipFile(archive.value.path()) as results:
        datasets = [dcmread(io.BytesIO(results.read(name))) for name in results.namelist()]
    assert {"SR", "OT"} <= {ds.Modality for ds in datasets}
    assert len({ds.StudyInstanceUID for ds in datasets}) == 1

    page.keyboard.press("Escape")
    page.click("button:has-text('Send to the PACS')")
    # The document is for people here; this destination's profile has none.
    wanted = {ds.SOPInstanceUID for ds in datasets if ds.SOPClassUID != EncapsulatedPDFStorage}
    wait_until(lambda: len(pacs.stored) >= len(wanted), "the PACS to have all", timeout_s=60)
    assert set(pacs.stored) == wanted
    expect(page.locator("section:has-text('Results in the PACS') .state.delivered")).to_be_visible()


def test_each_kind_of_file_goes_its_way(open_page: Open, tmp_path: Path) -> None:
    page = open_page("anna")
    wrong = tmp_path / "notes.png"
    wrong.write_text("no picture at all")
    page.goto("/upload")
    page.set_input_files("#files", str(wrong))
    refused = page.locator("#list li[data-kind=refused]")
    expect(refused).to_contain_text("FILE_KIND_UNKNOWN")
    expect(page.locator("#go")).to_be_disabled()

    hand_in(page, fundus_jpeg(tmp_path / "eye.jpg"))
    page.wait_for_url("**/studies/**")
    expect(page.locator(".answer h2")).to_have_text("Eye disease on fundus photographs")
    expect(page.locator("#canvas[data-layers='1']")).to_be_visible()

    hand_in(page, volume_nifti(tmp_path / "heart.nii.gz"))
    expect(page.locator("#problem")).to_contain_text("choose a model")
    page.select_option("#model", "toy-volume")
    page.click("#go")
    page.wait_for_url("**/studies/**")
    expect(page.locator(".answer .findings li").first).to_contain_text("Heart")
    expect(page.locator("#where")).to_contain_text("/12")
    assert overlay_is_drawn(page, "[data-layer*=mask]")
    shown = page.locator("#canvas").get_attribute("data-shown")
    page.locator("#canvas").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#canvas")).not_to_have_attribute("data-shown", shown or "")
    page.route("**/pixels?*", lambda route: route.fulfill(status=422, json={"message": "Gone."}))
    number = int((page.locator("#where").text_content() or "").rpartition("/")[0].split()[-1])
    page.keyboard.press("End" if number < 7 else "Home")
    expect(page.locator("#where")).to_contain_text("Gone.")
    page.locator("#opacity").fill("40")
    expect(page.locator("#where")).to_contain_text("Gone.")  # no other slice by that number
    assert not outlined(page, 64, 64).any()
    page.unroute("**/pixels?*")
    page.route("**/masks/*", lambda route: route.fulfill(status=422, json={"message": "Gone."}))
    page.locator("#canvas").press("End" if number < 7 else "Home")
    expect(page.locator("#where")).to_contain_text("An overlay cannot be shown.")
    page.locator("#opacity").fill("50")
    expect(page.locator("#where")).to_contain_text("An overlay cannot be shown.")
    page.unroute("**/masks/*")

    hand_in(page, ct_zip(tmp_path / "study.zip"))
    page.wait_for_url("**/studies/**")
    expect(page.locator("h1")).to_have_text("Sample, Alice")
    page.locator("summary:has-text('Why other models')").first.click()
    expect(page.locator(".reasons").first).to_contain_text("MODALITY_NOT_ACCEPTED")

    page.goto("/history")
    expect(page.locator(".row-link")).to_have_count(3)
    page.fill("[name=q]", "alice")
    page.press("[name=q]", "Enter")
    expect(page.locator(".row-link")).to_have_count(1)


def outlined(page: Page, rows: int, columns: int) -> np.ndarray:
    """Return which pixels of the image, shown as large as fits, are coloured in the viewer."""
    url = page.evaluate("document.getElementById('canvas').toDataURL()")
    shown = np.asarray(Image.open(io.BytesIO(b64decode(url.partition(",")[2]))).convert("RGB"))
    height, width = shown.shape[:2]
    scale = min(width / columns, height / rows)
    y = (height - rows * scale) / 2 + (np.arange(rows) + 0.5) * scale
    x = (width - columns * scale) / 2 + (np.arange(columns) + 0.5) * scale
    pixels = shown[np.ix_(y.astype(int), x.astype(int))].astype(int)
    return np.asarray(np.abs(pixels[..., 0] - pixels[..., 2]) > 20)


def test_mask_of_a_multi_frame_object_lies_on_its_frames(open_page: Open, tmp_path: Path) -> None:
    """An enhanced MR of two phases, frames backwards: the second half of them is analysed."""
    z, y, x = np.mgrid[:SLICES, :64, :64]
    ball = (x - 24) ** 2 + (y - 36) ** 2 + 25 * (z - 2) ** 2 < 400
    made = StackMade(values=(ball * 900 + 100).astype(np.int16), spacing_mm=(6.0, 1.5, 1.5))
    backwards = [*range(SLICES - 1, -1, -1)] * 2
    times = [2] * SLICES + [1] * SLICES
    path = tmp_path / "phases.dcm"
    made.enhanced(backwards, times).save_as(path, enforce_file_format=True)
    page = open_page("rosa")
    hand_in(page, path, model="toy-volume")
    page.wait_for_url("**/studies/**")
    expect(page.locator(".answer .note")).to_contain_text(f"{SLICES} of {2 * SLICES} images")
    expect(page.locator(".state.done").first).to_be_visible()
    page.click("summary:has-text('Download')")
    with page.expect_download() as archive:
        page.click("text=All DICOM results")
    page.keyboard.press("Escape")
    with zipfile.ZipFile(archive.value.path()) as results:
        datasets = [dcmread(io.BytesIO(results.read(name))) for name in results.namelist()]
    (report,) = (ds for ds in datasets if ds.Modality == "SR")
    said = [str(item.get("TextValue", "")) for item in report.ContentSequence]
    assert any(f"{SLICES} of {2 * SLICES} analysed" in one for one in said), said
    (mask,) = (ds for ds in datasets if ds.Modality == "SEG")
    sources = [
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for group in mask.PerFrameFunctionalGroupsSequence
    ]
    masks = dict(zip(map(int, sources), mask.pixel_array.astype(bool), strict=True))
    assert len({one.tobytes() for one in masks.values()}) > 1, "or any order would do"
    canvas = page.locator("#canvas")
    for frame in range(1, 2 * SLICES + 1):
        canvas.press("Home" if frame == 1 else "ArrowDown")
        expect(canvas).to_have_attribute("data-shown", f"{UID_ROOT}.3/{frame}")
        seen = outlined(page, 64, 64)
        assert (seen == masks.get(frame, np.zeros_like(seen))).mean() > 0.98, frame


def test_study_from_a_modality_appears_by_itself_and_everything_is_in_the_log(
    open_page: Open, service: Service, tmp_path: Path
) -> None:
    page = open_page("adam")
    page.goto("/worklist")
    page.wait_for_timeout(500)
    patient = SamplePatient("Live^Liz", "LIVE-1")
    chest_radiograph(77, consolidation=True, patient=patient).save_as(
        tmp_path / "live.dcm", enforce_file_format=True
    )
    assert send([tmp_path / "live.dcm"], service.itself, calling_ae_title="CT01")[0].is_delivered
    row = page.locator("tr:has-text('Live, Liz')")
    expect(row).to_be_visible()
    expect(row).to_contain_text("Pneumonia")
    expect(row.locator(".state")).to_have_text("done")
    page.goto("/operations/events?action=web.")
    expect(page.locator("td:has-text('web.signed_in')").first).to_be_visible()
    for action in ("study.uploaded", "study.viewed", "result.reviewed", "results.sent"):
        page.goto(f"/operations/events?action={action}")
        expect(page.locator(f"td:has-text('{action}')").first).to_be_visible()
    page.goto("/operations/destinations")
    page.click("button:has-text('C-ECHO')")
    expect(page.locator(".note.good")).to_contain_text("Answers C-ECHO")
    page.goto("/models")
    page.locator("article:has-text('fundus-disease') button").click()
    expect(page.locator("article:has-text('fundus-disease') .state")).to_have_text("off")
    page.locator("article:has-text('fundus-disease') button").click()


PAGES = (
    "/", "/upload", "/worklist", "/history", "/models", "/models/cxr-pneumonia", "/account",
    "/operations", "/operations/events", "/operations/deliveries", "/operations/destinations",
    "/operations/users",
)  # fmt: skip


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1440), ("light", 390)])
def test_pages_can_be_used_by_everyone(open_page: Open, scheme: str, width: int) -> None:
    viewport = {"width": width, "height": 900}
    page = open_page("adam", color_scheme=scheme, viewport=viewport)
    page.goto("/worklist")
    study = page.locator(".row-link").first.get_attribute("href")
    assert study is not None
    sideways = []
    for path in (*PAGES, study):
        page.goto(path)
        if path == study:
            expect(page.locator("#canvas[data-layers]")).to_be_visible()
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]][:3])
            for one in found.response["violations"]
            if one["impact"] in SERIOUS
        ]
        assert serious == [], path
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if overflow > 0:
            sideways.append(path)
    assert sideways == []


def bytes_of(request: Request) -> int:
    return request.sizes()["responseBodySize"]


def test_results_page_is_light(open_page: Open) -> None:
    page = open_page("rosa")
    page.goto("/worklist")
    study = page.locator(".row-link").first.get_attribute("href")
    sizes: dict[str, int] = {}
    page.on("requestfinished", lambda asked: sizes.update({asked.url: bytes_of(asked)}))
    page.goto(str(study), wait_until="load")
    expect(page.locator("#canvas[data-layers]")).to_be_visible()
    weight = sum(
        size for url, size in sizes.items() if not any(x in url for x in ("/pixels", "/heatmap"))
    )
    assert 10_000 < weight < 1_500_000


def test_study_stored_by_dicomweb_is_analysed_and_its_results_are_found(
    service: Service, pacs: StorageScp
) -> None:
    url = f"http://127.0.0.1:{service.settings.web.port}/dicom-web"
    token = token_of(service.ledger, "rosa", "read", "upload", "deliver")
    patient = SamplePatient("Stow^Web", "STOW-1")
    image = as_file(chest_radiograph(91, consolidation=True, patient=patient))
    with requests.Session() as session:
        session.trust_env = False
        client = DICOMwebClient(url, session, headers={"Authorization": f"Bearer {token}"})
        client.store_instances([image])
        study = str(image.StudyInstanceUID)
        service.wait_until_settled(study)
        found = [Dataset.from_json(one) for one in client.search_for_series(study)]
        assert {"SR", "OT", "DOC"} <= {one.Modality for one in found}
        (series,) = (one.SeriesInstanceUID for one in found if one.Modality == "SR")
        (written,) = client.retrieve_series(study, series)
    assert str(written.SOPInstanceUID) in pacs.stored, "the token may send results"
