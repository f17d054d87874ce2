"""Judged by others: dicom3tools, dcmtk, dcmqi."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from dicom_out.picture import picture_to_dicom
from dicom_out.results import encode_results
from pacsight.samples import SamplePatient
from tests.dicom_out.factories import MODEL, NOW, finding, image_result, source
from tests.peers.process import missing, program

pytestmark = pytest.mark.peer


def picture() -> FileDataset:
    ds = picture_to_dicom(np.full((91, 75, 3), 99, np.uint8), seed="picture", now=NOW)
    ds.StudyID = ds.PatientID = "1"  # a picture has none, and dcentvfy insists on one of them
    return ds


def sparse() -> FileDataset:
    ds = source(modality="CR")
    for keyword in ("PatientAge", "StudyDescription", "BodyPartExamined", "ViewPosition", "KVP"):
        del ds[keyword]
    ds.PatientBirthDate = ds.ReferringPhysicianName = ds.AccessionNumber = ""
    return ds


def fine_spacing() -> FileDataset:
    ds = source()
    del ds.ImagerPixelSpacing
    ds.ImagerPixelSpacing = ["0.14583333333", "0.14583333333"]
    return ds


def sided() -> FileDataset:
    ds = source(modality="CR")
    ds.BodyPartExamined, ds.Laterality = "HAND", "L"
    return ds


def named(name: str, *character_set: str) -> FileDataset:
    return source(patient=SamplePatient(patient_name=name, character_set=character_set))


SOURCES = {
    "dx": source,
    "dx-monochrome1": lambda: source(photometric="MONOCHROME1"),
    "cr-monochrome1": lambda: source(modality="CR", photometric="MONOCHROME1"),
    "secondary-capture": picture,
    "sparse": sparse,
    "fine-spacing": fine_spacing,
    "sided": sided,
    "one-pixel": lambda: source(rows=1, columns=1),
    "korean": lambda: named("Hong^Gildong=洪^吉洞=홍^길동", "", "ISO 2022 IR 149"),
    "japanese": lambda: named("Yamada^Tarou=山田^太郎=やまだ^たろう", "", "ISO 2022 IR 87"),
    "gb18030": lambda: named("Wang^XiaoDong=王^小东", "GB18030"),
    "utf-8": lambda: named("Wang^XiaoDong=王^小東", "ISO_IR 192"),
    "latin-1": lambda: named("Müller^Jörg", "ISO_IR 100"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, Path]]:
    """Source, report and capture of each kind of source, as files."""
    files = {}
    for name, make in SOURCES.items():
        folder = tmp_path_factory.mktemp(name)
        ds = make()
        ds.save_as(folder / "source.dcm", enforce_file_format=True)
        probability = 0.05 if name == "sided" else 0.9
        results = [image_result(ds, [finding(probability)])]
        for item in encode_results(results, model=MODEL, seed=name, now=NOW):
            (folder / f"{item.kind}.dcm").write_bytes(item.data)
        files[name] = (folder / "source.dcm", folder / "sr.dcm", folder / "sc.dcm")
    return files


@pytest.fixture(params=SOURCES)
def triple(
    request: pytest.FixtureRequest, written: dict[str, tuple[Path, Path, Path]]
) -> tuple[Path, Path, Path]:
    return written[request.param]


def report_of(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_dciodvfy_finds_no_error(triple: tuple[Path, Path, Path]) -> None:
    dciodvfy = program("dciodvfy")
    for path in triple[1:]:
        report = report_of(dciodvfy, "-new", path)
        assert "Error" not in report, f"{path.name}: {report}"


def test_dcentvfy_finds_no_contradiction_to_the_source(triple: tuple[Path, Path, Path]) -> None:
    report = report_of(program("dcentvfy"), *triple)
    findings = [line for line in report.splitlines() if line.startswith("Error")]
    assert not findings


def test_dsrdump_prints_the_finding(
    triple: tuple[Path, Path, Path], dcmtk: Callable[..., str]
) -> None:
    report = dcmtk("dsrdump", "+Pl", triple[1])  # +Pl prints long values whole
    assert "Comprehensive 3D SR Document" in report
    assert '"Finding")=(233604007,SCT,"Pneumonia")' in report
    assert '"Probability")=' in report
    assert "AI result - not reviewed" in report
    assert "sha256=9f2c9f2c" in report
    assert "UNVERIFIED" in report
    assert "E: " not in report


def test_dcmtk_renders_the_capture(
    triple: tuple[Path, Path, Path], dcmtk: Callable[..., str], tmp_path: Path
) -> None:
    dcmtk("dcm2pnm", "+op", triple[2], tmp_path / "capture.ppm")
    assert (tmp_path / "capture.ppm").stat().st_size > 1000


def test_dcmqi_reads_the_measurements(triple: tuple[Path, Path, Path], tmp_path: Path) -> None:
    reader = Path(sysconfig.get_path("scripts")) / "tid1500reader"
    if not reader.exists():
        missing("dcmqi")
    output = tmp_path / "measurements.json"
    log = report_of(reader, "--inputDICOM", triple[1], "--outputMetadata", output)
    assert "rror" not in log, log
    (group,) = json.loads(output.read_text(encoding="utf-8"))["Measurements"]
    assert group["Finding"]["CodeMeaning"] == "Pneumonia"
    values = {item["quantity"]["CodeMeaning"]: item["value"] for item in group["measurementItems"]}
    assert float(values["Operating threshold"]) == 42.0
    assert float(values["Probability"]) in (90.0, 5.0)
