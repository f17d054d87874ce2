"""DICOMweb by real clients on a real port: dicomweb-client, curl, and bytes made by hand."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, SegmentationStorage
from sqlalchemy import Engine, select

from ledger.database import open_database, reading, transaction
from ledger.tables import Association, Event, Revision
from ledger.web_tables import Upload
from pacsight.samples import ct_series
from pacsight.selftest import SIDE, SLICES
from tests.peers.dcmtk import dcmtk
from tests.peers.process import program
from tests.viewer_api.conftest import PEOPLE, add_people, make_context
from tests.viewer_api.held import add_results, as_file, index, part_10
from tests.viewer_api.serving import serving, token_of
from viewer_api.config import WebConfig
from viewer_api.context import WebContext
from viewer_api.dicomweb.native_model import NAMESPACE

GUEST = "https://viewer.example.org"
PARTS = 'multipart/related; type="application/dicom"'
OCTETS = "application/octet-stream"
STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
KINDS = ["JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "rtdose_expb.dcm", "image_dfl.dcm",
         "SC_rgb_rle_16bit_2frame.dcm", "examples_palette.dcm", "liver_1frame.dcm",
         "MR_small_jpeg_ls_lossless.dcm", "SC_ybr_full_422_uncompressed.dcm"]  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A Pacsight with a CT study and its results, and with one image of each kind."""

    url: str
    context: WebContext
    tokens: dict[str, str]
    slices: list[Dataset]
    opened: ExitStack

    def http(self, login: str = "rosa", base: str = "/dicom-web", **headers: str) -> httpx.Client:
        token = self.tokens.get(login)
        return self.opened.enter_context(
            httpx.Client(
                base_url=f"{self.url}{base}", trust_env=False, timeout=60,
                headers={**({"authorization": f"Bearer {token}"} if token else {}), **headers},
            )
        )  # fmt: skip

    def client(self) -> DICOMwebClient:
        session = self.opened.enter_context(requests.Session())
        headers = {"Authorization": f"Bearer {self.tokens['rosa']}"}
        return DICOMwebClient(f"{self.url}/dicom-web", session=session, headers=headers)

    @property
    def study(self) -> str:
        return str(self.slices[0].StudyInstanceUID)

    def index(self) -> None:
        index(self.context)

    def events(self, action: str) -> list[Event]:
        with reading(self.context.database) as session:
            return list(session.scalars(select(Event).where(Event.action == action)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("dicomweb")
    (folder / "ledger.sqlite").write_bytes(migrated_sqlite.read_bytes())
    engine = open_database(f"sqlite:///{folder / 'ledger.sqlite'}")
    config = WebConfig(dicomweb_origins=(GUEST,), max_file_bytes=1 << 22, max_upload_bytes=1 << 24)
    context = make_context(engine, folder, config=config)
    add_people(context)
    tokens = {login: token_of(context.database, login, "read", "upload") for login in PEOPLE}
    tokens["reader"] = token_of(context.database, "rosa", "read")
    tokens["deliverer"] = token_of(context.database, "rosa", "read", "upload", "deliver")
    slices = [as_file(one) for one in ct_series(5, slices=SLICES, rows=SIDE, columns=SIDE)]
    slices[3].ImageComments = "two\r\nlines"
    with serving(context) as url, ExitStack() as opened:
        site = Site(url, context, tokens, slices, opened)
        site.client().store_instances(slices)
        for name in KINDS:
            part = Path(str(get_testdata_file(name, download=False))).read_bytes()
            assert site.http().post(
                "/studies", content=part, headers={"content-type": "application/dicom"}
            ).status_code == 200, name  # fmt: skip
        site.index()
        add_results(context, slices)
        yield site
    engine.dispose()


def address_of(one: Dataset) -> str:
    series = f"/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}"
    return f"{series}/instances/{one.SOPInstanceUID}"


def values(row: dict[str, Any], keyword: str) -> Any:
    (element,) = (one for one in Dataset.from_json(row, lambda *_: b"") if one.keyword == keyword)
    return element.value


def test_a_client_finds_and_reads_a_study_with_its_results(site: Site) -> None:
    client = site.client()
    (study,) = client.search_for_studies(search_filters={"StudyInstanceUID": site.study})
    assert sorted(values(study, "ModalitiesInStudy")) == ["CT", "DOC", "OT", "SEG", "SR"]
    assert values(study, "PatientName") == site.slices[0].PatientName
    series = client.search_for_series(site.study)
    assert {values(one, "Modality") for one in series} == {"CT", "DOC", "OT", "SEG", "SR"}
    counts = sum(int(values(one, "NumberOfSeriesRelatedInstances")) for one in series)
    assert counts == int(values(study, "NumberOfStudyRelatedInstances"))
    assert len(client.search_for_instances(site.study)) == counts
    metadata = client.retrieve_study_metadata(site.study)
    assert len(metadata) == counts
    read = client.retrieve_study(site.study)
    assert {one.SOPInstanceUID for one in read} == {
        values(one, "SOPInstanceUID") for one in metadata
    }
    ours = {one.SOPInstanceUID: one for one in site.slices}
    for one in read:
        if one.SOPInstanceUID in ours:
            assert np.array_equal(one.pixel_array, ours[one.SOPInstanceUID].pixel_array)
    program = site.http(base="/api/v1")
    listed = program.get("/studies?modality=CT").json()["studies"]
    assert site.study in {one["study_instance_uid"] for one in listed}
    assert len(program.get(f"/studies/{site.study}").json()["series"]) == 1
    page = program.get("/studies?limit=2").json()
    rest = program.get("/studies", params={"after": page["next"], "limit": 200}).json()
    assert rest["next"] is None
    (report,) = (one for one in series if values(one, "Modality") == "SR")
    (found,) = client.search_for_series(
        search_filters={"SeriesInstanceUID": values(report, "SeriesInstanceUID")}
    )
    assert values(found, "StudyInstanceUID") == site.study
    seen = [one for one in site.events("study.retrieved") if one.subject == site.study]
    assert [one.actor for one in seen] == ["rosa"], "a viewer's many requests are one access"


def test_frames_pictures_and_bulk_data(site: Site) -> None:
    client, one = site.client(), site.slices[4]
    where = site.study, str(one.SeriesInstanceUID), str(one.SOPInstanceUID)
    (frame,) = client.retrieve_instance_frames(*where, frame_numbers=[1])
    assert frame == one.PixelData
    base, http = address_of(one), site.http()
    (header,) = http.get(f"{base}/metadata").json()  # the client's Host lacks the port for links
    bulk = http.get(header["7FE00010"]["BulkDataURI"], headers={"accept": OCTETS})
    assert bulk.content == one.PixelData
    wide = http.get(f"{base}/rendered?window=40,4000,linear", headers={"accept": "image/png"})
    narrow = http.get(f"{base}/frames/1/rendered?window=40,80", headers={"accept": "image/png"})
    pictures = [np.asarray(Image.open(io.BytesIO(got.content))) for got in (wide, narrow)]
    assert pictures[0].shape == (one.Rows, one.Columns)
    assert len(np.unique(pictures[0])) > len(np.unique(pictures[1][pictures[1] > 0][:1])) > 0
    assert (pictures[0] != pictures[1]).any()
    small = http.get(f"/studies/{site.study}/thumbnail?viewport=64,64")
    assert max(Image.open(io.BytesIO(small.content)).size) == 64
    part = http.get(f"{base}/rendered?viewport=50,50,0,0,20,10", headers={"accept": "image/*"})
    assert Image.open(io.BytesIO(part.content)).size == (50, 25)
    (seg,) = client.search_for_instances(
        site.study, search_filters={"SOPClassUID": SegmentationStorage}
    )
    uids = site.study, values(seg, "SeriesInstanceUID"), values(seg, "SOPInstanceUID")
    whole = client.retrieve_instance(*uids)
    frames = client.retrieve_instance_frames(*uids, frame_numbers=[1, 2])
    packed = [np.packbits(whole.pixel_array[n].reshape(-1), bitorder="little") for n in (0, 1)]
    assert frames == [one.tobytes() for one in packed]
    (document,) = client.search_for_instances(
        site.study, search_filters={"SOPClassUID": EncapsulatedPDFStorage}
    )
    where = f"/studies/{site.study}/series/{values(document, 'SeriesInstanceUID')}"
    where += f"/instances/{values(document, 'SOPInstanceUID')}"
    got = http.get(f"{where}/rendered?accept=application/pdf")
    assert got.content.startswith(b"%PDF")
    bulk = http.get(f"{where}/bulkdata/00420011?accept=application/pdf")
    assert bulk.content == got.content


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_pixels_as_stored_and_uncompressed(site: Site, name: str) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    original = dcmread(path)
    http = site.http()
    where = address_of(original)
    stored = http.get(where, headers={"accept": "application/dicom; transfer-syntax=*"})
    kept = dcmread(io.BytesIO(stored.content))
    assert kept.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert kept.PixelData == original.PixelData
    plain = dcmread(io.BytesIO(http.get(where, headers={"accept": "application/dicom"}).content))
    assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert plain.SOPInstanceUID == original.SOPInstanceUID
    assert np.array_equal(plain.pixel_array, original.pixel_array)
    frame = http.get(f"{where}/frames/1", headers={"accept": "application/octet-stream"})
    count = int(original.get("NumberOfFrames") or 1)
    assert plain.PixelData.startswith(frame.content)
    assert len(frame.content) == (len(plain.PixelData) - len(plain.PixelData) % 2) // count
    many = http.get(f"{where}/frames/1", headers={"accept": STORED})
    assert many.status_code == 200
    assert b"transfer-syntax=" in many.content[:400]
    assert http.get(f"{where}/rendered").headers["content-type"] == "image/jpeg"
    assert http.get(f"{where}/frames/{count + 1}").status_code == 404
    assert http.get(f"{where}/frames/0").status_code == 400
    (header,) = http.get(f"{where}/metadata").json()
    assert header["00080018"]["Value"] == [original.SOPInstanceUID]
    assert header["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010")


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"PatientID": "{PatientID}"}, True),
        ({"00100020": "{PatientID}x"}, False),
        ({"PatientName": "{PatientName}"}, True),
        ({"PatientName": "*"}, True),
        ({"PatientName": "?{PatientName}"}, False),
        ({"StudyDate": "{StudyDate}"}, True),
        ({"StudyDate": "19000101-{StudyDate}", "StudyTime": "-235959"}, True),
        ({"StudyDate": "{StudyDate}-", "ModalitiesInStudy": "MG,SEG"}, True),
        ({"StudyDate": "-19000101"}, False),
        ({"ModalitiesInStudy": "NM"}, False),
        ({"ModalitiesInStudy": "SEG"}, True),
        ({"ModalitiesInStudy": "DOC", "PatientID": "{PatientID}x"}, False),
        ({"AccessionNumber": "100%"}, False),
        ({"StudyInstanceUID": "1.2,{StudyInstanceUID}", "includefield": "all"}, True),
    ],
)
def test_studies_are_matched_as_asked(site: Site, parameters: dict[str, str], found: bool) -> None:
    source = site.slices[0]
    asked = {
        key: value.format(**{word: source.get(word) for word in (
            "PatientID", "PatientName", "StudyDate", "StudyInstanceUID")})
        for key, value in parameters.items()
    }  # fmt: skip
    answer = site.http().get("/studies", params=asked)
    rows = answer.json() if answer.status_code == 200 else []
    assert (site.study in {values(row, "StudyInstanceUID") for row in rows}) == found
    assert answer.status_code == (200 if rows else 204)


def test_paging_and_series_and_instances_of_all_studies(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = site.http()
    everything = http.get("/studies").json()
    pages = [http.get("/studies", params={"limit": 3, "offset": at}) for at in range(0, 12, 3)]
    assert [row for page in pages if page.content for row in page.json()] == everything
    assert "additional results" in pages[0].headers["warning"]
    fuzzy = http.get("/studies?fuzzymatching=true&limit=100")
    assert "fuzzymatching" in fuzzy.headers["warning"]
    mr = http.get("/series?Modality=MR").json()
    assert {values(row, "Modality") for row in mr} == {"MR"}
    assert all(values(row, "StudyInstanceUID") for row in mr)
    seg = http.get("/series?Modality=SEG").json()
    assert {values(row, "Modality") for row in seg} == {"SEG"}
    assert len(seg) == 2  # one was received, one is a result
    assert site.study in {values(row, "StudyInstanceUID") for row in seg}
    assert http.get("/series?Modality=XX").status_code == 204
    one = site.slices[0]
    rows = http.get("/instances", params={"SOPInstanceUID": one.SOPInstanceUID}).json()
    assert [values(row, "Rows") for row in rows] == [SIDE]
    numbered = http.get(f"/studies/{site.study}/instances?InstanceNumber=3&Modality=CT").json()
    assert [values(row, "InstanceNumber") for row in numbered] == [3]
    of_series = http.get(f"/studies/{site.study}/series/{one.SeriesInstanceUID}/instances")
    assert len(of_series.json()) == SLICES
    assert http.get("/studies/1.2.3/series").status_code == 204
    assert "warning" not in http.get("/series").headers
    monkeypatch.setattr("viewer_api.dicomweb.search.BATCH", 2)
    monkeypatch.setattr("viewer_api.dicomweb.search.SCANNED", 2)
    assert "Only the newest" in http.get("/series").headers["warning"]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies?Rows=3", "*/*", 400),
        ("/studies?SeriesNumber=3", "*/*", 400),
        ("/studies?limit=-1", "*/*", 400),
        ("/studies?StudyDate=yesterday", "*/*", 400),
        ("/studies?includefield=nonsense", "*/*", 400),
        ("/studies?PatientID=a%00b", "*/*", 400),
        ("/studies", "application/dicom+xml", 406),
        ("/studies", "text/plain", 406),
        ("/studies/{study}", "application/dicom", 406),
        ("/studies/{study}", f"{PARTS}; transfer-syntax=1.2.840.10008.1.2.4.50", 406),
        ("/studies/{study}", "image/png", 406),
        ("/studies/{study}/metadata", "application/dicom+xml", 406),
        ("/studies/{study}/rendered?window=1", "*/*", 400),
        ("/studies/{study}/thumbnail?viewport=0,9", "*/*", 400),
        ("/studies/1.2.3", "*/*", 404),
        ("/studies/{study}/series/1.2.3/metadata", "*/*", 404),
        ("/studies/{study}/series/{series}/instances/{instance}/bulkdata/../../x", "*/*", 404),
        ("/studies/{study}/series/{series}/instances/{instance}/bulkdata/00080060", "*/*", 404),
        ("/studies/{study}/series/{series}/instances/{instance}/frames/1,2", "*/*", 404),
    ],
)  # fmt: skip
def test_what_cannot_be_given_says_why(site: Site, path: str, accept: str, status: int) -> None:
    one = site.slices[0]
    where = path.format(study=site.study, series=one.SeriesInstanceUID, instance=one.SOPInstanceUID)
    answer = site.http().get(where, headers={"accept": accept})
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message"}


def content_of(model: bytes) -> dict[str, tuple[str, str, list[str]]]:
    """Return VR, keyword and texts of each attribute of a Native DICOM Model, at any depth."""
    namespace = f"{{{NAMESPACE}}}"
    found = {}

    def read(parent: ElementTree.Element, place: str) -> None:
        for one in parent.findall(f"{namespace}DicomAttribute"):
            where = f"{place}/{one.get('tag')}{one.get('privateCreator', '')}"
            items = one.findall(f"{namespace}Item")
            texts = [] if items else [part.text or "" for part in one.iter() if part is not one]
            values = [str(float(text)) if one.get("vr") in ("DS", "FD", "FL") else text.strip()
                      for text in texts if text.strip()]  # fmt: skip
            found[where] = str(one.get("vr")), str(one.get("keyword")), values
            for item in items:
                read(item, f"{where}/{item.get('number')}")

    read(ElementTree.fromstring(model), "")
    return found


def parts_of(answer: httpx.Response) -> list[bytes]:
    boundary = answer.headers["content-type"].rpartition("boundary=")[2].encode()
    parts = answer.content.split(b"--" + boundary)[1:-1]
    return [part.split(b"\r\n\r\n", 1)[1] for part in parts]


def test_xml_says_what_dcmtk_says_of_the_same_object(site: Site, tmp_path: Path) -> None:
    http = site.http(accept='multipart/related; type="application/dicom+xml"')
    for original in (
        site.slices[3],
        dcmread(get_testdata_file("liver_1frame.dcm", download=False)),
    ):
        (model,) = parts_of(http.get(f"{address_of(original)}/metadata"))
        path = tmp_path / "original.dcm"
        original.save_as(path)
        options = ["--native-format", "--use-xml-namespace", "--convert-to-utf8"]
        theirs = content_of(dcmtk("dcm2xml", *options, path).encode())
        ours = content_of(model)
        ours.pop("/7FE00010"), theirs.pop("/7FE00010")  # a link here
        ours.pop("/00080005", None), theirs.pop("/00080005", None)  # UTF-8 here and there
        assert ours == theirs
    (found,) = parts_of(http.get("/studies", params={"StudyInstanceUID": site.study}))
    assert content_of(found)["/0020000D"] == ("UI", "StudyInstanceUID", [site.study])
    headers = {"accept": "application/dicom+xml", "content-type": "application/dicom"}
    stored = site.http(**headers).post("/studies", content=part_10(site.slices[0]))
    assert "/00081199/1/00081155" in content_of(stored.content)


def test_curl_stores_and_the_sender_is_known(site: Site, tmp_path: Path) -> None:
    (one,) = ct_series(77, slices=1)
    good = part_10(one)
    kind = b"Content-Type: application/dicom\r\n\r\n"
    parts = [kind + good, kind + b"no DICOM", kind + good[: len(good) // 2]]
    body = b"".join(b"--=_x\r\n" + part + b"\r\n" for part in parts) + b"--=_x--\r\n"
    (tmp_path / "body").write_bytes(body)
    done = subprocess.run(
        [
            program("curl"), "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}",
            "--header", f"Authorization: Bearer {site.tokens['deliverer']}",
            "--header", f'Content-Type: {PARTS}; boundary="=_x"',
            "--data-binary", f"@{tmp_path / 'body'}", f"{site.url}/dicom-web/studies",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text, status = done.stdout.rsplit("\n", 1)
    assert status == "202"
    answer = Dataset.from_json(json.loads(text))
    (stored,) = answer.ReferencedSOPSequence
    assert stored.ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert stored.RetrieveURL.endswith(one.SOPInstanceUID)
    assert [item.FailureReason for item in answer.OtherFailuresSequence] == [0xC000, 0xC000]
    site.index()
    assert site.http().get(f"/studies/{one.StudyInstanceUID}").status_code == 200
    with reading(site.context.database) as session:
        upload = session.scalars(select(Upload).order_by(Upload.stored_at.desc()).limit(1)).one()
        association = session.get_one(Association, upload.association_id)
        assert upload.is_delivered, "the token may send results"
        assert association.outcome == "released", "more may come: silence decides, as after C-STORE"
    assert {event.actor for event in site.events("instances.refused")} == {"rosa"}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (PARTS, b"", 400),
        (f"{PARTS}; boundary=x", b"", 400),
        (f"{PARTS}; boundary=x", b"--x--", 400),
        (f"{PARTS}; boundary=x", b"--y\r\n\r\n\r\n--y--", 400),
        (f"{PARTS}; boundary=x", b"--x\r\n\r\nabc", 400),
        (f"{PARTS}; boundary=x", b"--x\r\nA: b\r\n\r\nabc\r\n--x--", 409),
        (f"{PARTS}; boundary={'x' * 9999}", b"--x", 400),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"--x--", 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("text/plain", b"abc", 415),
        ("", b"abc", 415),
        ("application/dicom", b"", 409),
        ("application/dicom", bytes((1 << 22) + 1), 413),
    ],
)  # fmt: skip
def test_malformed_bodies_are_refused_and_leave_nothing(
    site: Site, kind: str, body: bytes, status: int
) -> None:
    headers = {"content-type": kind} if kind else {}
    answer = site.http().post("/studies", content=body, headers=headers)
    assert answer.status_code == status
    assert list(site.context.uploads_dir.iterdir()) == []


def test_other_study_is_refused(site: Site) -> None:
    (one,) = ct_series(78, slices=1)
    uid = str(one.StudyInstanceUID)
    assert site.client().store_instances([as_file(one)], study_instance_uid=uid)
    kind = {"content-type": "application/dicom"}
    refused = site.http().post("/studies/1.2.3", content=part_10(one), headers=kind)
    assert refused.status_code == 409
    (item,) = Dataset.from_json(refused.json()).FailedSOPSequence
    assert item.FailureReason == 0xA900


def test_who_may_and_from_where(site: Site) -> None:
    anonymous = site.http("nobody")
    for method, path in (("GET", ""), ("GET", f"/{site.study}"), ("POST", "")):
        answer = anonymous.request(method, f"/studies{path}")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
    kind = {"content-type": "application/dicom"}
    assert site.http("reader").post("/studies", content=b"x", headers=kind).status_code == 403
    asked = {"origin": GUEST, "access-control-request-method": "GET"}
    preflight = anonymous.options("/studies", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == GUEST
    assert "access-control-allow-credentials" not in preflight.headers
    answer = site.http(origin=GUEST).get("/studies")
    assert answer.headers["access-control-allow-origin"] == GUEST
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    other = site.http(origin="https://evil.example.org").get("/studies")
    assert "access-control-allow-origin" not in other.headers
    page = httpx.get(f"{site.url}/health", headers={"origin": GUEST}, trust_env=False)
    assert "access-control-allow-origin" not in page.headers, "pages are nobody else's"


def test_newer_results_stand_in_for_older_ones(site: Site, sqlite_engine: Engine) -> None:
    """Superseded results are found no more, and other variants never were."""
    rows = site.http().get(f"/studies/{site.study}/instances").json()
    uids = [values(row, "SOPInstanceUID") for row in rows]
    assert len(uids) == len(set(uids))
    assert not any(uid.endswith(".9") for uid in uids)
    with transaction(site.context.database) as session:
        revision = session.scalars(select(Revision)).one()
        revision.superseded_by = 2
    try:
        left = site.http().get(f"/studies/{site.study}/instances").json()
        assert len(left) == SLICES
    finally:
        with transaction(site.context.database) as session:
            session.scalars(select(Revision)).one().superseded_by = None
