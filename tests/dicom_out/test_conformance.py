"""Judged by others: dicom3tools, dcmtk, dcmqi."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import (
    OphthalmicPhotography8BitImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicom_out.model_result import ResultObject
from dicom_out.picture import picture_to_dicom
from dicom_out.results import encode_results, encode_volume
from ledger.domain import Box, Code, Segment
from pacsight.samples import SamplePatient
from tests.dicom_out.factories import MODEL, NOW, WHOLE, finding, image_result, source
from tests.dicom_out.volumes import every_geometry
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


def out_of_form() -> FileDataset:
    """A header with values that no object may have."""
    ds = source(modality="CR")
    ds.Laterality = "L"  # of a chest
    ds.PatientIdentityRemoved = "YES"  # but not how
    ds.PatientSex = "W"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "Lungenr\xf6ntgen"
    ds.ProcedureCodeSequence = ItemSequence([item])
    del ds.SpecificCharacterSet  # which would have said what letter that is
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
    "out-of-form": out_of_form,
    "one-pixel": lambda: source(rows=1, columns=1),
    "korean": lambda: named("Hong^Gildong=洪^吉洞=홍^길동", "", "ISO 2022 IR 149"),
    "japanese": lambda: named("Yamada^Tarou=山田^太郎=やまだ^たろう", "", "ISO 2022 IR 87"),
    "gb18030": lambda: named("Wang^XiaoDong=王^小东", "GB18030"),
    "utf-8": lambda: named("Wang^XiaoDong=王^小東", "ISO_IR 192"),
    "latin-1": lambda: named("Müller^Jörg", "ISO_IR 100"),
}


@dataclass(frozen=True)
class Files:
    """A bundle and what it is about, as files."""

    sources: list[Path]
    results: list[Path]

    def of(self, kind: str) -> list[Path]:
        return [path for path in self.results if path.name.startswith(kind)]


def photograph() -> FileDataset:
    """An ophthalmic photograph, with its type 1 and 2 attributes."""
    ds = picture_to_dicom(np.full((64, 80, 3), 99, np.uint8), seed="eye", now=NOW, modality="OP")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = OphthalmicPhotography8BitImageStorage
    ds.ImageLaterality = "R"
    ds.StudyID = ds.PatientID = "1"
    ds.PixelSpacing = [0.011, 0.013]
    del ds.Laterality
    return ds


def ultrasound() -> FileDataset:
    """Three frames in colour, of a calibrated region."""
    ds = picture_to_dicom(np.full((48, 56, 3), 60, np.uint8), seed="us", now=NOW, modality="US")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    ds.NumberOfFrames, ds.StudyID, ds.PatientID = 3, "1", "1"
    ds.PixelData = ds.PixelData * 3
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.02
    ds.SequenceOfUltrasoundRegions = ItemSequence([region])
    return ds


SOURCES |= {"photograph": photograph, "ultrasound": ultrasound}
SERIES = every_geometry()
GREEK = {"mr-oblique": "Διονυσίου^Νίκος"}


def image_bundle(name: str, folder: Path) -> list[ResultObject]:
    ds = SOURCES[name]()
    ds.save_as(folder / "source.dcm", enforce_file_format=True)
    result = image_result(ds, [finding(0.05 if name == "sided" else 0.9)])
    if name in ("photograph", "ultrasound"):  # outlines and boxes too
        mask = np.zeros((ds.Rows, ds.Columns), bool)
        mask[10:30, 20:50] = True
        vessel = Segment("Vessel", Code("59820001", "SCT", "Blood vessel"), mask)
        box = Box("Mass", Code("4147007", "SCT", "Mass"), 0.9, 0.5, 3.5, 4.0, 30.0, 20.0)
        prediction = replace(result.prediction, segments=(vessel,), boxes=(box,))
        result = replace(result, prediction=prediction)
    return encode_results([result], model=MODEL, seed=name, now=NOW, profile=WHOLE)


def series_bundle(name: str, folder: Path) -> list[ResultObject]:
    result = SERIES[name]
    for number, ds in enumerate(result.sources):
        ds.SpecificCharacterSet, ds.StudyID = "ISO_IR 192", "1"
        ds.PatientName = GREEK.get(name, str(ds.PatientName))
        ds.save_as(folder / f"source{number:03}.dcm", enforce_file_format=True)
    return encode_volume(result, model=MODEL, seed=name, now=NOW, profile=WHOLE)


NAMES = [*SOURCES, *SERIES]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    files = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        bundle = image_bundle if name in SOURCES else series_bundle
        results = []
        for number, item in enumerate(bundle(name, folder)):
            results.append(folder / f"{item.kind}-{number}.dcm")
            results[-1].write_bytes(item.data)
        files[name] = Files(sorted(folder.glob("source*.dcm")), results)
    return files


@pytest.fixture(params=NAMES)
def files(request: pytest.FixtureRequest, written: dict[str, Files]) -> Files:
    return written[request.param]


def report_of(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def test_dciodvfy_finds_no_error(files: Files) -> None:
    dciodvfy = program("dciodvfy")
    for path in files.results:
        report = report_of(dciodvfy, "-new", path)
        assert "Error" not in report, f"{path.name}: {report}"


def test_dcentvfy_finds_no_contradiction_to_the_source(files: Files) -> None:
    report = report_of(program("dcentvfy"), *files.sources, *files.results)
    findings = [line for line in report.splitlines() if line.startswith("Error")]
    assert not [line for line in findings if line not in baseline(files)]


def baseline(files: Files) -> set[str]:
    """What the sources contradict among themselves."""
    report = report_of(program("dcentvfy"), *files.sources)
    return {line for line in report.splitlines() if line.startswith("Error")}


def test_dsrdump_prints_the_finding(files: Files, dcmtk: Callable[..., str]) -> None:
    report = dcmtk("dsrdump", "+Pl", files.of("sr")[0])  # +Pl prints long values whole
    assert "Comprehensive 3D SR Document" in report
    assert '"Finding")=(' in report
    assert "AI result - not reviewed" in report
    assert "sha256=9f2c9f2c" in report
    assert "UNVERIFIED" in report
    assert '"Illustration of Finding")=(SC image,)' in report
    assert "E: " not in report


def test_dcmtk_renders_the_pictures(
    files: Files, dcmtk: Callable[..., str], tmp_path: Path
) -> None:
    for path in files.of("sc")[:2]:
        dcmtk("dcm2pnm", "+op", path, tmp_path / "capture.ppm")
        assert (tmp_path / "capture.ppm").stat().st_size > 1000


def test_dcmqi_reads_the_measurements(files: Files, tmp_path: Path) -> None:
    reader = Path(sysconfig.get_path("scripts")) / "tid1500reader"
    if not reader.exists():
        missing("dcmqi")
    output = tmp_path / "measurements.json"
    log = report_of(reader, "--inputDICOM", files.of("sr")[0], "--outputMetadata", output)
    assert "rror" not in log, log
    groups = json.loads(output.read_text(encoding="utf-8"))["Measurements"]
    found = {
        item["quantity"]["CodeMeaning"]: float(item["value"])
        for group in groups
        for item in group["measurementItems"]
    }
    if files.of("seg"):
        assert found.keys() >= {"Volume", "Long axis"}
    else:
        assert found["Operating threshold"] in (42.0, 50.0)
        assert found["Probability"] in (90.0, 5.0)
