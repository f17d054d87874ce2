"""Bad input through the whole service: each has a coded answer, and nothing is lost."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ImplicitVRLittleEndian
from typer.testing import CliRunner

from dicom_out.delivery import send
from ledger.database import reading
from ledger.tables import ReceivedObject
from pacsight.cli import app
from pacsight.errors import OperationError
from pacsight.samples import SamplePatient, chest_radiograph, ct_series
from pacsight.settings import CONFIG_VARIABLE
from scp.spool import open_object
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.scp.raw_peer import EXPLICIT_LITTLE, RawPeer, store_message
from tests.scp.received import data_set_bytes
from tests.service import REPOSITORY, Service

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    pacs = Orthanc(tmp_path_factory.mktemp("pacs") / "orthanc", {})
    pacs.start()
    yield pacs
    pacs.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc) -> Iterator[Service]:
    """One service for all of it: bad input must not disturb what comes after it."""
    service = Service(tmp_path_factory.mktemp("service"), pacs_port=pacs.dicom_port)
    service.start("serve")
    yield service
    service.stop()


def _radiograph(seed: int = 1, **options: object) -> Dataset:
    return chest_radiograph(seed, consolidation=True, **options)  # type: ignore[arg-type]


def _without_pixels() -> Dataset:
    dataset = _radiograph(11)
    del dataset.PixelData
    return dataset


def _as_video() -> Dataset:
    dataset = _radiograph(12)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2 Main Profile
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate([b"\0\0\1\xb3" * 64])
    return dataset


def _private() -> Dataset:
    dataset = _radiograph(15)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.3.4")
    dataset.file_meta.TransferSyntaxUID = UID("1.2.3.5")
    return dataset


def _one_pixel() -> Dataset:
    return _radiograph(13, rows=1, columns=1)


def _wrong_modality() -> Dataset:
    return ct_series(14)[0]


REFUSED: dict[str, tuple[Callable[[], Dataset], str]] = {
    "wrong modality": (_wrong_modality, "MODALITY_NOT_ACCEPTED"),
    "no pixel data": (_without_pixels, "NO_PIXEL_DATA"),
    "video": (_as_video, "TRANSFER_SYNTAX_UNSUPPORTED"),
    "private class in a private syntax": (_private, "TRANSFER_SYNTAX_UNSUPPORTED"),
    "one pixel": (_one_pixel, "IMAGE_TOO_SMALL"),
}


def test_unsuitable_studies_are_refused_with_a_code(service: Service, tmp_path: Path) -> None:
    expected = {}
    for name, (make, code) in REFUSED.items():
        dataset = make()
        path = tmp_path / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
        (receipt,) = send([path], service.itself, calling_ae_title="TEST")
        assert receipt.is_delivered, (name, receipt)
        expected[str(dataset.StudyInstanceUID)] = code
    for uid, code in expected.items():
        report = service.wait_until_settled(uid)
        assert report["state"] == "not analysed"
        assert [d["refused"]["code"] for d in report["revisions"][0]["decisions"]] == [code]


def _small(seed: int, *, without: str = "") -> bytes:
    dataset = _radiograph(seed, rows=64, columns=64)
    if without:
        del dataset[without]
    return data_set_bytes(dataset)


QUARANTINED: dict[str, tuple[bytes, str]] = {
    "1.2.21": (_small(21)[:-5000], "TRUNCATED"),
    "1.2.22": (_small(22, without="StudyInstanceUID"), "UID_MISSING"),
    "1.2.23": (_small(23), "UID_MISMATCH"),
    "1.2.24": (b"Dear colleague, enclosed please find nothing at all.\n" * 20, "HEADER_UNREADABLE"),
    "1.2.25": (b"", "HEADER_UNREADABLE"),
}
"""What a sender may send under a SOP Instance UID, and why it is set aside."""


def test_unreadable_objects_are_kept_in_quarantine_with_their_reason(service: Service) -> None:
    class_uid = DigitalXRayImageStorageForPresentation
    with RawPeer(service.port).associate((class_uid, [EXPLICIT_LITTLE])) as peer:
        for uid, (body, _) in QUARANTINED.items():
            peer.send(store_message(body, instance_uid=uid, class_uid=class_uid))
            assert peer.read_status() == 0  # the bytes are safe; what they mean is found out later

    def listed() -> list[dict[str, Any]]:
        command = ["studies", "list", "--quarantined", "--json"]
        done = CliRunner().invoke(app, command, env={CONFIG_VARIABLE: str(service.config)})
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows if len(rows) == len(QUARANTINED) else []

    for row in wait_until(listed, "quarantine"):
        body, code = QUARANTINED[row["sop_instance_uid"]]
        assert row["code"] == code
        assert row["reason"].endswith(".")
        with reading(service.ledger) as session:
            stored = session.get_one(ReceivedObject, row["id"])
        spool = service.settings.spool_dir
        with open_object(spool, stored.segment, stored.offset, stored.size) as file:
            assert file.read().endswith(body)


NAMES: dict[tuple[str, ...], str] = {
    ("ISO_IR 192",): "Nguyễn^Văn=阮^文",
    ("GB18030",): "Zhang^XiaoDong=张^小东",
    ("GBK",): "Wang^XiaoDong=王^小东",
    ("", "ISO 2022 IR 149"): "Hong^Gildong=洪^吉洞=홍^길동",
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ("ISO_IR 100",): "Buc^Jérôme",
}


def test_names_come_back_as_they_were(service: Service, pacs: Orthanc, tmp_path: Path) -> None:
    expected = {}
    for seed, (character_sets, name) in enumerate(NAMES.items(), start=100):
        patient = SamplePatient(patient_name=name, character_set=character_sets)
        dataset = _radiograph(seed, patient=patient)
        dataset.save_as(tmp_path / f"{seed}.dcm")
        expected[str(dataset.StudyInstanceUID)] = name
    send([tmp_path], service.itself, calling_ae_title="TEST")
    results = defaultdict(list)
    for uid in expected:
        report = service.wait_until_settled(uid)
        assert report["state"] == "done"
        (decision,) = report["revisions"][0]["decisions"]
        assert decision["applies_because"].startswith("Takes 1 of 1 images")
    for instance in pacs.instances():
        data = pacs.http.get(f"/instances/{instance['ID']}/file").content
        result = dcmread(io.BytesIO(data), stop_before_pixels=True)
        results[str(result.StudyInstanceUID)].append(str(result.PatientName))
    assert {uid: results[uid] for uid in expected} == {
        uid: [name, name] for uid, name in expected.items()
    }


def test_model_folder_with_a_wrong_digest_is_reported_and_skipped(
    pacs: Orthanc, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(REPOSITORY / "checkpoints" / "cxr-pneumonia", models / "cxr-pneumonia")
    weights = models / "cxr-pneumonia" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    service = Service(tmp_path / "s", pacs_port=pacs.dicom_port, models_dir=str(models))
    service.start("serve")
    try:
        dataset = _radiograph(41)
        dataset.save_as(tmp_path / "dx.dcm")
        send([tmp_path / "dx.dcm"], service.itself, calling_ae_title="TEST")
        report = service.wait_until_settled(str(dataset.StudyInstanceUID))
    finally:
        service.stop()
    assert report["state"] == "not analysed"
    assert "MODEL_WEIGHTS_DIGEST" in service.log("serve")


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _bare_data_set(folder: Path) -> bytes:
    dataset = _radiograph(51)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    path = folder / "whole.dcm"
    dataset.save_as(path)
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")  # of the file meta group
    return data[144 + length :]


def test_files_that_are_no_images_are_named_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    _file(folder, "text.dcm", b"Dear colleague, enclosed please find nothing at all.\n" * 20)
    _file(folder, "empty.dcm", b"")
    bare = _bare_data_set(tmp_path)
    _file(folder, "bare.dcm", bare)
    _file(folder, "bare-cut.dcm", bare[: len(bare) // 2])
    models = ["--model", "cxr-pneumonia"]
    done = CliRunner().invoke(
        app, ["analyze", str(folder), *models, "--out", str(tmp_path / "out"), "--json"]
    )
    rows = {Path(row["input"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    codes = {name: row["refused"] and row["refused"]["code"] for name, row in rows.items()}
    assert codes == {
        "text.dcm": "NOT_AN_IMAGE",
        "empty.dcm": "NOT_AN_IMAGE",
        "bare.dcm": None,
        "bare-cut.dcm": "DICOM_TRUNCATED",
    }
    assert not isinstance(done.exception, OperationError)
