"""``python -m tests.viewers.pages [FOLDER]``: every page of the web app, as people see it.

A whole Pacsight with all models is filled with drawn studies. Pictures of each page, dark, light
and on a phone, go to the folder; those of the documents are written anew.
"""

from __future__ import annotations

import copy
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pydicom import Dataset, dcmread

from dicom_out.delivery import send
from dicom_out.profile import STANDARD
from ledger.database import transaction
from pacsight.samples import SamplePatient, chest_radiograph, ct_series
from pacsight.selftest import SIDE, SLICES, bundle_of
from pacsight.waiting import is_listening
from tests.peers.process import free_port, program, wait_until
from tests.peers.storage_scp import StorageScp
from tests.scp.raw_peer import EXPLICIT_LITTLE, RawPeer, store_message
from tests.scp.received import data_set_bytes
from tests.service import REPOSITORY, Service
from tests.viewer_api.drawn import fundus_jpeg, volume_nifti, xray_png
from viewer_api.accounts import add_user

DOCUMENTS = REPOSITORY / "docs" / "images"
PASSWORD = "correct horse battery"
PEOPLE = {"rosa": ("Rosa Röntgen", "radiologist"), "adam": ("Adam Admin", "administrator")}
PATIENCE_MS = 120_000
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    "dark": {"color_scheme": "dark", "viewport": DESKTOP},
    "light": {"color_scheme": "light", "viewport": DESKTOP},
    "phone": {"color_scheme": "dark", "viewport": PHONE, "device_scale_factor": 2},
    "de": {"color_scheme": "dark", "viewport": DESKTOP, "locale": "de-DE"},
    "vi": {"color_scheme": "light", "viewport": PHONE, "locale": "vi-VN"},
}
ALICE = SamplePatient("Sample^Alice", "SAMPLE-1", "19610102", "F", "065Y")
BRUNO = SamplePatient("Sample^Bruno", "SAMPLE-2", "20220711", "M", "003Y")
GILDONG = SamplePatient("Hong^Gildong=洪^吉洞=홍^길동", "SAMPLE-3", "19700102", "M", "056Y")
QUALITY = 82


@dataclass
class Site:
    """A running Pacsight, and what is in it."""

    service: Service
    pacs: StorageScp
    studies: dict[str, str] = field(default_factory=dict)
    """address of the page of a study, by what it shows"""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.settings.web.port}"

    def push(self, folder: Path, *images: Dataset, name: str) -> None:
        """Send a study as a modality does."""
        folder /= name
        folder.mkdir()
        for number, image in enumerate(images):
            image.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)
        receipts = send([folder], self.service.itself, calling_ae_title="CT01")
        assert all(one.is_delivered for one in receipts)
        self.studies[name] = f"/studies/{images[0].StudyInstanceUID}"


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Start a Pacsight with every shipped model, and people."""
    models = folder / "models"
    models.mkdir()
    for package in (REPOSITORY / "checkpoints").iterdir():
        if package.is_dir():
            (models / package.name).symlink_to(package)
    pacs = StorageScp("MAINPACS")
    pacs.start()
    web = {"port": free_port(), "ohif_url": "https://pacsight.example.org/ohif"}
    where = {"name": "pacs", "ae_title": "MAINPACS", "host": "127.0.0.1", "port": pacs.port}
    service = Service(
        folder / "service", pacs_port=pacs.port, models_dir=str(models), web=web,
        destinations=[where],
    )  # fmt: skip
    service.start("serve")
    try:
        wait_until(lambda: is_listening(service.settings.web.port), "the web app", timeout_s=60)
        with transaction(service.ledger) as session:
            for login, (name, role) in PEOPLE.items():
                add_user(
                    session, login=login, name=name, role=role, password=PASSWORD, actor="root",
                    now=0.0,
                )  # fmt: skip
        yield Site(service, pacs)
    finally:
        service.stop()
        pacs.stop()


def signed_in(site: Site, chromium: Browser, login: str, look: str) -> BrowserContext:
    options = {"locale": "en-GB", "timezone_id": "Europe/Berlin", **LOOKS[look]}
    context = chromium.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto("/login")
    page.fill("[name=login]", login)
    page.fill("[name=password]", PASSWORD)
    page.click("main button.primary")
    page.wait_for_url("**/")
    page.close()
    return context


def hand_in(site: Site, page: Page, name: str, file: Path, model: str = "") -> None:
    page.goto("/upload")
    page.set_input_files("#files", str(file))
    expect(page.locator("#go")).to_be_enabled(timeout=PATIENCE_MS)
    if model:
        page.select_option("#model", model)
    page.click("#go")
    page.wait_for_url("**/studies/**")
    site.studies[name] = page.url.removeprefix(site.url)


def fill(site: Site, chromium: Browser, folder: Path) -> None:
    """Hand in and push one of each kind, and wait until all is answered."""
    stray = chest_radiograph(3, consolidation=True, patient=ALICE)
    mixed = chest_radiograph(2, consolidation=False, patient=BRUNO)
    stray.StudyInstanceUID = mixed.StudyInstanceUID
    cut = copy.deepcopy(chest_radiograph(5, consolidation=False, patient=ALICE))
    cut.PixelData = cut.PixelData[: len(cut.PixelData) // 2]
    site.push(folder, chest_radiograph(42, consolidation=True, patient=BRUNO), name="radiograph")
    site.push(folder, chest_radiograph(1, consolidation=False, patient=GILDONG), name="normal")
    site.push(folder, *ct_series(4, slices=24, patient=ALICE, rows=256, columns=256), name="ct")
    site.push(folder, mixed, stray, name="held")
    site.push(folder, cut, name="cut")
    context = signed_in(site, chromium, "rosa", "dark")
    page = context.new_page()
    hand_in(site, page, "picture", xray_png(folder / "chest.png"))
    hand_in(site, page, "fundus", fundus_jpeg(folder / "eye.jpg"))
    volume = volume_nifti(folder / "heart.nii.gz")
    hand_in(site, page, "volume", volume, "left-atrium")
    for name in site.studies:
        if name in ("held", "cut"):
            continue
        uid = site.studies[name].rpartition("/")[2]
        site.service.wait_until_settled(uid, timeout_s=200)
    page.goto(site.studies["radiograph"])
    page.fill("[name=comment]", "Agreed: lower left field.")
    page.click("button[value=accepted]")
    page.goto("/upload")
    page.set_input_files("#files", [str(folder / "chest.png"), str(folder / "eye.jpg")])
    expect(page.locator("#list li[data-kind=taken]")).to_have_count(2, timeout=PATIENCE_MS)
    page.click("#go")
    page.wait_for_url("**/uploads/**")
    PAGES["uploaded"] = page.url.removeprefix(site.url)
    context.close()
    site.pacs.status = 0xA900  # another study than the PACS expects: it will never take it
    whole = chest_radiograph(6, consolidation=True, patient=BRUNO)
    with RawPeer(site.service.port).associate((whole.SOPClassUID, [EXPLICIT_LITTLE])) as peer:
        for uid, body in {
            whole.SOPInstanceUID: data_set_bytes(whole),
            cut.SOPInstanceUID: data_set_bytes(cut)[:-5000],
        }.items():
            peer.send(store_message(body, instance_uid=uid, class_uid=whole.SOPClassUID))
            assert peer.read_status() == 0
    site.studies["undelivered"] = f"/studies/{whole.StudyInstanceUID}"
    site.service.wait_until_settled(str(whole.StudyInstanceUID), timeout_s=200)
    site.pacs.status = 0x0000


ANYBODY = {"home": "/", "login": "/login"}
PAGES = {
    "start": "/", "upload": "/upload", "worklist": "/worklist", "history": "/history",
    "nothing": "/worklist?q=nobody", "models": "/models", "model": "/models/cxr-findings",
    "account": "/account", "missing": "/studies/1.2.3", "operations": "/operations",
    "events": "/operations/events", "deliveries": "/operations/deliveries",
    "destinations": "/operations/destinations", "users": "/operations/users",
}  # fmt: skip
READER = ("upload", "history", "uploaded")
"""Seen as a radiologist, the rest as an administrator."""
TRANSLATED = ("start", "worklist", "upload", "operations", "account", "users")


def look_at(page: Page, path: str, picture: Path) -> None:
    page.goto(path)
    if "/studies/1.2.826" in page.url or "/studies/2.25" in page.url:
        canvas = page.locator("#canvas[data-layers]")
        if page.locator("#canvas").count():
            expect(canvas).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_timeout(300)
    page.screenshot(path=picture, full_page=True)


def pictures(site: Site, chromium: Browser, folder: Path) -> None:
    """Take a picture of every page in every look."""
    for look, options in LOOKS.items():
        is_english = "locale" not in options
        anybody = chromium.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
        page = anybody.new_page()
        for name, path in ANYBODY.items():
            look_at(page, path, folder / f"{name}-{look}.png")
        anybody.close()
        people = {login: signed_in(site, chromium, login, look) for login in PEOPLE}
        pages = {login: context.new_page() for login, context in people.items()}
        for name, path in PAGES.items():
            if is_english or name in TRANSLATED:
                who = "rosa" if name in READER else "adam"
                look_at(pages[who], path, folder / f"{name}-{look}.png")
        if is_english:
            act(pages, folder, look)
        for name, path in site.studies.items():
            if name != "cut" and (is_english or name in ("radiograph", "ct")):
                look_at(pages["rosa"], path, folder / f"study-{name}-{look}.png")
        for context in people.values():
            context.close()


def act(pages: dict[str, Page], folder: Path, look: str) -> None:
    """Take pictures of what pages answer when something is done."""
    page, notes = pages["rosa"], folder / "notes.png"
    notes.write_text("no picture at all")
    page.goto("/upload")
    page.set_input_files("#files", [str(notes), str(folder / f"login-{look}.png")])
    expect(page.locator("#list li[data-kind]")).to_have_count(2, timeout=PATIENCE_MS)
    page.screenshot(path=folder / f"uploading-{look}.png", full_page=True)
    notes.unlink()
    page = pages["adam"]
    page.goto("/operations/destinations")
    page.click("button:has-text('self-test')")
    expect(page.locator(".note")).to_be_visible(timeout=PATIENCE_MS)
    page.screenshot(path=folder / f"self-test-{look}.png", full_page=True)
    page.goto("/account")
    page.fill("[name=name]", "Viewer")
    page.click("button:has-text('Make a token')")
    expect(page.locator("#token")).to_be_visible()
    page.screenshot(path=folder / f"token-{look}.png", full_page=True)


def document(site: Site, chromium: Browser, folder: Path) -> None:
    """Write the pictures that README and docs show: of pages, and of results."""
    context = signed_in(site, chromium, "rosa", "dark")
    page = context.new_page()
    for name, path in {
        "web-worklist": "/worklist",
        "web-study": site.studies["radiograph"],
    }.items():
        page.goto(path)
        if name == "web-study":
            expect(page.locator("#canvas[data-layers]")).to_be_visible(timeout=PATIENCE_MS)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png")
        keep(Image.open(folder / f"{name}.png"), f"{name}.webp")
    picture, paper = (
        page.request.get(str(page.locator(f"a[href$='.{suffix}']").first.get_attribute("href")))
        for suffix in ("png", "pdf")
    )
    keep(Image.open(io.BytesIO(picture.body())), "heatmap.webp")
    (folder / "report.pdf").write_bytes(paper.body())
    first = ["-png", "-singlefile", "-r", "55"]
    command = [program("pdftoppm"), *first, folder / "report.pdf", folder / "report-page"]
    subprocess.run(command, check=True)
    keep(Image.open(folder / "report-page.png"), "report-page.webp")
    slices = ct_series(5, slices=SLICES, rows=SIDE, columns=SIDE)
    montage = next(
        one for one in bundle_of(slices, datetime.now(UTC))(STANDARD) if one.kind == "sc"
    )
    keep(Image.fromarray(dcmread(io.BytesIO(montage.data)).pixel_array), "montage.webp")
    context.close()


def keep(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").save(DOCUMENTS / name, quality=QUALITY)


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else REPOSITORY / "build" / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name)) as site,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        empty = signed_in(site, chromium, "adam", "dark")
        for path in ("worklist", "operations/deliveries"):
            look_at(empty.new_page(), f"/{path}", folder / f"empty-{Path(path).name}-dark.png")
        empty.close()
        fill(site, chromium, Path(name))
        pictures(site, chromium, folder)
        document(site, chromium, folder)
        chromium.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}; docs/images is written anew.")


if __name__ == "__main__":
    main(sys.argv[1:])
