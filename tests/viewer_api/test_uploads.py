"""Uploads from the browser's bytes to objects in the spool."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from sqlalchemy import select

from ledger.choices import upload_of
from ledger.database import reading
from ledger.errors import PacsightError
from ledger.tables import Association, Event, Instance, ReceivedObject, Revision, Study
from ledger.worklist import refresh_worklist
from pacsight.samples import ct_series
from scp.config import CompletenessConfig
from scp.errors import CommitError
from scp.header import find_data_set
from scp.indexer import index_received
from scp.local_intake import LocalIntake
from scp.revisions import close_complete_studies
from scp.spool import open_object
from tests.pacsight.models import write_volume_model
from tests.viewer_api.conftest import Browser, make_context
from viewer_api.accounts import find_user
from viewer_api.app import create_app
from viewer_api.config import WebConfig
from viewer_api.context import WebContext
from viewer_api.errors import UploadClosedError
from viewer_api.roles import Principal
from viewer_api.upload_files import read_dicom, remove_abandoned, shown_name
from viewer_api.upload_intake import take_file

Open = Callable[..., Browser]
JSON = {"accept": "application/json"}


def png(side: int = 64) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (side, side), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def nifti(times: int = 1) -> bytes:
    array = np.arange(16 * 16 * 6 * times, dtype=np.int16).reshape(16, 16, 6, times)
    return gzip.compress(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 4.0, 1.0])).to_bytes())


def dicom(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    ct_series(7, slices=3)[number].save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def archive(files: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return buffer.getvalue()


class Uploading:
    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.headers = {"x-csrf-token": browser.csrf, **JSON}
        self.id = browser.post("/uploads", headers=self.headers).json()["id"]

    def put(self, data: bytes, name: str = "file") -> Any:
        path = f"/uploads/{self.id}/files"
        answer = self.browser.put(path, params={"name": name}, content=data, headers=self.headers)
        return answer.json()

    def code(self, data: bytes, name: str = "file") -> str:
        said = self.put(data, name)
        return str(said["code"] if isinstance(said, dict) else said[0]["code"])

    def finish(self, **fields: object) -> Any:
        path = f"/uploads/{self.id}/finish"
        return self.browser.post(path, data=fields, headers=self.headers).json()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from inference.registry import scan_models

    folder = tmp_path_factory.mktemp("models")
    write_volume_model(folder)
    return scan_models(folder)


@pytest.fixture
def context(sqlite_engine, tmp_path: Path, models) -> WebContext:  # type: ignore[no-untyped-def]
    return make_context(sqlite_engine, tmp_path, registry=models)


def test_dicom_in_a_zip_becomes_a_complete_study_at_once(
    browser: Open, context: WebContext
) -> None:
    uploading = Uploading(browser("anna"))
    data = archive({f"../../{n}": dicom(n) for n in range(3)} | {"__MACOSX/x": b"x", "r.txt": b"x"})
    said = uploading.put(data, "C:\\scans\\study.zip")
    assert [(one["kind"], one["code"]) for one in said] == [
        ("dicom", None), ("dicom", None), ("dicom", None), ("", "FILE_KIND_UNKNOWN"), ("zip", None),
    ]  # fmt: skip
    assert said[0]["name"] == "study.zip › 0"
    done = uploading.finish()
    assert len(done["studies"]) == 1
    assert not (context.uploads_dir / uploading.id).exists()
    assert index_received(context.database, context.spool_dir, now=time.time()) == 3
    closed = wait_for_close(context)
    with reading(context.database) as session:
        revision = session.get_one(Revision, closed)
        assert revision.reason_code == "UPLOAD_COMPLETE"
        upload = upload_of(session, closed)
        assert upload is not None
        assert (upload.id, upload.is_delivered) == (uploading.id, False)
        association = session.scalars(select(Association)).one()
        assert association.calling_ae_title == "WEB-UPLOAD"
        actions = {(one.actor, one.action) for one in session.scalars(select(Event))}
        stored = session.scalars(select(ReceivedObject)).all()
    assert ("anna", "study.uploaded") in actions
    for row, number in zip(stored, range(3), strict=True):
        with open_object(context.spool_dir, row.segment, row.offset, row.size) as file:
            assert dcmread(file) == dcmread(io.BytesIO(dicom(number)))
    assert uploading.put(dicom())["code"] == "UPLOAD_CLOSED"


def wait_for_close(context: WebContext) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        config = CompletenessConfig(quiet_s=3600, broken_quiet_s=3600, cap_s=7200)
        closed = close_complete_studies(context.database, config, now=time.time())
        if closed:
            return closed[0]
        time.sleep(0.02)  # the association's end is written by a thread of its own
    raise AssertionError("the study was not closed")


def test_volume_becomes_slices_of_the_patient_that_was_typed(
    browser: Open, context: WebContext
) -> None:
    uploading = Uploading(browser("anna"))
    assert uploading.put(nifti(times=4), "heart.nii.gz")[0]["kind"] == "nifti"
    assert uploading.finish()["code"] == "KIND_NEEDED", "and the upload stays open"
    done = uploading.finish(
        model="toy-volume", patient_name="Nguyễn, Thị Hoa", patient_id="A\\1",
        patient_birth_date="1970-01-31", patient_sex="F",
    )  # fmt: skip
    assert len(done["studies"]) == 1
    assert index_received(context.database, context.spool_dir, now=time.time()) == 6
    with reading(context.database) as session:
        study = session.scalars(select(Study)).one()
        instance = session.scalars(select(Instance)).first()
    assert (study.patient_name, study.patient_id) == ("Nguyễn^Thị Hoa", "A/1")
    assert (study.patient_birth_date, study.patient_sex) == ("19700131", "F")
    assert instance is not None
    assert instance.facts["modality"] == "MR"
    assert instance.facts["series_description"] == "Uploaded, volume 1 of 4"


def test_picture_that_no_model_knows_needs_a_kind(browser: Open) -> None:
    uploading = Uploading(browser("anna"))
    assert uploading.put(png(), "x.dcm")[0]["kind"] == "picture", "content decides"
    assert uploading.finish()["code"] == "KIND_NEEDED"
    assert uploading.finish(model="toy-volume")["code"] == "KIND_NEEDED", "it takes series"
    assert uploading.finish(model="no-such")["code"] == "INPUT_INVALID"


def test_same_picture_twice_is_two_studies(browser: Open, context: WebContext) -> None:
    studies = []
    for _ in range(2):
        uploading = Uploading(browser("anna"))
        uploading.put(nifti())
        studies += uploading.finish(model="toy-volume")["studies"]
    assert len(set(studies)) == 2


def test_what_is_refused_says_why(browser: Open) -> None:
    uploading = Uploading(browser("anna"))
    whole = dicom()
    nested = archive({"inner.zip": archive({"a": png()})})
    cases = {
        b"": "FILE_KIND_UNKNOWN",
        b"GIF89a" + bytes(100): "FILE_KIND_UNKNOWN",
        b"<script>alert(1)</script>": "FILE_KIND_UNKNOWN",
        png()[:200]: "PIXELS_UNREADABLE",
        huge_png(): "IMAGE_TOO_LARGE",
        whole[: len(whole) // 2]: "TRUNCATED",
        gzip.compress(b"no volume" * 100): "FILE_KIND_UNKNOWN",
        nifti()[:300]: "NOT_AN_IMAGE",
        nested: "ZIP_REFUSED",
        archive({"a": png()})[:-30]: "ZIP_REFUSED",
        b"PK\x03\x04" + bytes(60): "ZIP_REFUSED",
        archive({}): "UPLOAD_REFUSED",
        encrypted(): "ZIP_REFUSED",
    }
    answers = {expected: uploading.code(data) for data, expected in cases.items()}
    assert [uploading.code(data) for data in cases] == list(cases.values()), answers
    assert uploading.finish()["code"] == "UPLOAD_REFUSED"


def huge_png() -> bytes:
    """Return a PNG of 60000 x 60000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )  # fmt: skip


def encrypted() -> bytes:
    data = bytearray(archive({"a": png()}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def test_bombs_and_limits(context: WebContext, browser: Open) -> None:
    browser()
    config = WebConfig(max_file_bytes=200_000, max_upload_bytes=1_000_000, max_files=4)
    small = Browser(create_app(replace(context, config=config)), headers={"accept": "text/html"})
    assert small.sign_in("anna") == 303
    uploading = Uploading(small)
    bomb = archive({"a": bytes(50_000_000)})
    assert len(bomb) < 60_000
    assert uploading.code(bomb) == "UPLOAD_TOO_LARGE"
    assert uploading.code(archive({str(n): b"x" for n in range(9)})) == "TOO_MANY_FILES"
    assert uploading.code(bytes(200_001)) == "UPLOAD_TOO_LARGE"

    def endless() -> Any:
        for _ in range(300):
            yield bytes(1000)

    answer = small.put(
        f"/uploads/{uploading.id}/files?name=x", content=endless(), headers=uploading.headers
    )
    assert answer.status_code == 413, "no length was declared"
    left = list((context.uploads_dir / uploading.id).iterdir())
    assert left == [], "nothing of what was refused stays"


def test_deflated_bomb_of_ratio_is_refused(browser: Open) -> None:
    uploading = Uploading(browser("anna"))
    assert uploading.code(archive({"a": bytes(30_000_000)}, compresslevel=9)) == "UPLOAD_TOO_LARGE"


def test_uploads_belong_to_who_made_them(browser: Open) -> None:
    anna, rosa = Uploading(browser("anna")), browser("rosa")
    headers = {"x-csrf-token": rosa.csrf, **JSON}
    path = f"/uploads/{anna.id}"
    assert rosa.put(f"{path}/files?name=x", content=b"x", headers=headers).status_code == 404
    assert rosa.post(f"{path}/finish", headers=headers).status_code == 404
    assert rosa.get(path).status_code == 404
    anna.put(dicom())
    assert anna.finish(deliver="true")["code"] == "NOT_ALLOWED", "staff don't send to the PACS"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\a\\b.png", "b.png"),
        ("a\x00b\n.png", "ab.png"),
        ("/", "?"),
        ("x" * 300, "x" * 200),
    ],
)
def test_names_are_shown_without_their_tricks(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_script_in_names_stays_text(browser: Open, context: WebContext) -> None:
    one = browser("anna")
    script = '"><img src=x onerror=alert(1)><script>alert(1)'
    uploading = Uploading(one)
    uploading.put(b"no image", script)
    uploading.put(nifti(), script)
    done = uploading.finish(model="toy-volume", patient_name=script[:60], patient_id=script[:60])
    index_received(context.database, context.spool_dir, now=time.time())
    assert refresh_worklist(context.database) == 1
    pages = ("/worklist", "/history", f"/uploads/{uploading.id}", f"/studies/{done['studies'][0]}")
    for path in pages:
        text = one.get(path).text
        assert "onerror" in text, path
        assert "<img src=x" not in text
        assert "<script>alert" not in text


def test_abandoned_files_go_after_a_day(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    remove_abandoned(tmp_path, time.time() + 3600)
    assert old.exists()
    remove_abandoned(tmp_path, time.time() + 90_000)
    assert not old.exists()


def test_deflated_data_set_is_never_inflated_whole(browser: Open) -> None:
    start = io.BytesIO()
    dataset = ct_series(7, slices=1)[0]
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.save_as(start, enforce_file_format=True)
    packed = start.getvalue()
    assert Uploading(browser("anna")).put(packed)[0]["kind"] == "dicom"
    file = io.BytesIO(packed)
    file.seek(find_data_set(file))
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    header = inflate.decompress(file.read())[: -dataset.Rows * dataset.Columns * 2]
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(header) + b"".join(deflate.compress(bytes(1 << 20)) for _ in range(400))
    bomb = packed[: find_data_set(io.BytesIO(packed))] + body + deflate.flush()
    assert len(bomb) < 1_000_000
    tracemalloc.start()
    with contextlib.suppress(PacsightError):
        read_dicom(io.BytesIO(bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 << 20


def test_upload_that_broke_off_goes_on(
    browser: Open, context: WebContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploading = Uploading(browser("anna"))
    for number in range(3):
        assert uploading.put(dicom(number))[0]["kind"] == "dicom"
    store, count = LocalIntake.store, iter(range(9))

    def breaks_once(*values: Any) -> None:
        if next(count) == 1:
            raise CommitError("The ledger did not commit; send it again later.")
        store(*values)

    monkeypatch.setattr(LocalIntake, "store", breaks_once)
    assert uploading.finish()["code"] == "LEDGER_COMMIT_FAILED"
    assert 'class="state waiting"' in uploading.browser.get(f"/uploads/{uploading.id}").text
    assert uploading.put(dicom())["code"] == "UPLOAD_CLOSED"
    deadline = time.monotonic() + 10  # the association's end is written by a thread of its own
    while (done := uploading.finish()).get("code") == "UPLOAD_NOT_BROKEN_OFF":
        assert time.monotonic() < deadline
    assert len(done["studies"]) == 1
    assert index_received(context.database, context.spool_dir, now=time.time()) == 3
    closed = wait_for_close(context)
    with reading(context.database) as session:
        assert session.get_one(Revision, closed).reason_code == "UPLOAD_COMPLETE"
        assert session.scalars(select(Association)).one().outcome == "uploaded"
        assert upload_of(session, closed) is not None
    assert uploading.finish()["code"] == "UPLOAD_CLOSED", "stored is stored"


def test_file_that_comes_too_late_is_not_acknowledged(browser: Open, context: WebContext) -> None:
    anna = browser("anna")
    uploading = Uploading(anna)
    uploading.put(dicom(0))
    with reading(context.database) as session:
        account = find_user(session, "anna")
    user = Principal(account.id, "anna", "Anna", "staff", frozenset())
    late = context.uploads_dir / uploading.id / "late.part"
    late.write_bytes(dicom(1))

    def finish_meanwhile(path: Path, _: object) -> tuple[str, Path]:
        assert "studies" in uploading.finish()
        return "dicom", path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("viewer_api.upload_intake.inspect", finish_meanwhile)
        with pytest.raises(UploadClosedError):
            take_file(context, user, uploading.id, "late", late)
