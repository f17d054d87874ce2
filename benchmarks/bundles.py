"""Result bundles of real files, judged by others: dicom3tools, dcmtk, dcmqi.

Every file whose pixels can be read gets what a classification, a detection and an outlining model
could say of it, and a refusal; every file and folder that is a series gets segmentations of both
types::

    python -m benchmarks.bundles --dicom DIR [--keep DIR]

What the judges say is counted and printed by message. Set aside, and counted by reason, is what the
judges themselves are too old for and what a result takes over from its source on purpose. Ends with
status 1 if a complaint is left, or if a bundle failed its own checks.
"""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID, RTDoseStorage

from dicom_out.model_result import ImageResult, ModelDescription, ResultObject, VolumeResult
from dicom_out.patient import read_text
from dicom_out.profile import Profile
from dicom_out.refusal import encode_refusal
from dicom_out.results import encode_results, encode_volume
from inference.reading import read_image
from inference.volume import read_series
from ledger.domain import (
    Box,
    Code,
    Finding,
    Heatmap,
    ModelIdentity,
    Prediction,
    Refusal,
    Segment,
)
from ledger.errors import PacsightError

MODEL = ModelDescription(ModelIdentity("benchmark", "1.0.0", "0" * 64, "Benchmark"), "-", "-")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MASS, HEART = Code("4147007", "SCT", "Mass"), Code("80891009", "SCT", "Heart")
WHOLE = Profile(name="whole", pdf=True, refusals=True)
LABEL_MAP = Profile(name="label-map", seg="labelmap", empty_frames="keep", sc=False)
LABEL_MAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"
_ASIDE = {
    "judge knows no label maps": re.compile(
        "Information Object Not found|SegmentNumber not monotonically|ReferencedSegmentNumber"
        "|image SOP class|content item|error .Invalid Value. parsing"
    ),
    "judge does not check this character set": re.compile("SpecificCharacterSet|Character Set"),
    "the source's own UID": re.compile("Illegal root for UID = <(.+)>"),
    "the source's date or time in the form of ACR-NEMA": re.compile(
        r"Value 1 <([\d.:]+)> versus <(\d+)>"
    ),
    "the source's name, without its empty last part": re.compile("Value 1 <(.+)=> versus <(.+)>"),
}
"""Why a complaint is set aside, and what it looks like."""


@dataclass
class Tally:
    """What the judges said.

    Attributes
    ----------
    sources, objects
        How many were read and written.
    failures
        Bundles that failed their own checks, by code.
    said
        Each message of each judge, with the files that it is about.
    aside
        How many complaints were set aside, by reason.
    """

    sources: int = 0
    objects: int = 0
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    said: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    aside: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Write and judge every bundle; print what was said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dicom", type=Path, required=True, help="folder of DICOM files")
    parser.add_argument("--keep", type=Path, help="where to leave the bundles; else they are gone")
    arguments = parser.parse_args()
    logging.getLogger("dicom_out").setLevel(logging.ERROR)  # what was left out of each
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        for label, files in _groups(arguments.dicom):
            folder = (arguments.keep or Path(name)) / label.replace("/", "_")
            _bundle_and_judge(label, files, folder, tally)
    _print(tally)
    return 1 if tally.said or tally.failures else 0


def _groups(root: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield single files, and folders below ``series`` as a whole."""
    for path in sorted((root / "files").iterdir()):
        yield path.name, [path]
    for folder in sorted((root / "series").iterdir()):
        yield folder.name, sorted(path for path in folder.rglob("*") if path.is_file())


def _bundle_and_judge(label: str, files: list[Path], folder: Path, tally: Tally) -> None:
    written = []
    for kind, write in (("image", _of_image), ("series", _of_series)):
        try:
            written += write(files)
        except PacsightError as error:
            if error.code.startswith("RESULT"):
                tally.failures[f"{error.code}: {error}"].append(f"{label} ({kind})")
    if not written:
        return
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for number, item in enumerate(written):
        results.append(folder / f"{number:02}-{item.kind}.dcm")
        results[-1].write_bytes(item.data)
    tally.sources += len(files)
    tally.objects += len(results)
    uids = _source_uids(files)
    for judge, path, message, is_label_map in _judge(files, results, written, folder):
        reason = _reason(message, uids, is_label_map=is_label_map)
        if reason:
            tally.aside[reason] += 1
        else:
            tally.said[judge, message.replace(str(folder), "")].append(f"{label}/{path}")


def _reason(message: str, uids: set[str], *, is_label_map: bool) -> str:
    """Return why a complaint is set aside, or ``""``."""
    for reason, pattern in _ASIDE.items():
        found = pattern.search(message)
        if found is None or ("label maps" in reason and not is_label_map):
            continue
        groups = found.groups()
        if "UID" in reason and groups[0] not in uids:
            continue
        if len(groups) == 2 and re.sub("[.:]", "", groups[0]) != groups[1]:
            continue
        return reason
    return ""


def _source_uids(files: Sequence[Path]) -> set[str]:
    keywords = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    headers = [dcmread(path, force=True, stop_before_pixels=True) for path in files]
    return {read_text(ds, keyword) for ds in headers for keyword in keywords}


def _of_image(files: Sequence[Path]) -> list[ResultObject]:
    """Return what models of single images could say of the first file."""
    image = read_image(files[0])
    if image.dataset is None or not _is_image(image.dataset):
        return []
    rows, columns = image.display.shape[:2]
    y, x = np.mgrid[:rows, :columns]
    spot = np.hypot((y + 0.5) / rows - 0.6, (x + 0.5) / columns - 0.3)
    findings = Finding("mass", MASS, 0.9, 0.5), Finding("heart", HEART, 0.2, 0.5)
    box = Box("mass", MASS, 0.9, 0.5, 0.2 * columns, 0.3 * rows, 0.6 * columns, 0.9 * rows)
    answers = (
        {"findings": findings, "heatmap": Heatmap(_hot(spot), "mass", "features.18")},
        {"findings": findings[:1], "boxes": (box,), "segments": (Segment("h", HEART, spot < 0.2),)},
    )
    objects = []
    for number, answer in enumerate(answers):
        prediction = Prediction(
            model=MODEL.identity,
            sop_instance_uids=(str(image.dataset.SOPInstanceUID),),
            seconds=0.1,
            **{"findings": (), "heatmap": None, **answer},
        )
        result = ImageResult(prediction, image.dataset, image.display)
        objects += encode_results(
            [result], model=MODEL, seed=f"image/{number}", now=NOW, profile=WHOLE
        )
    return objects + _refusal(image.dataset)


def _is_image(source: Dataset) -> bool:
    """Whether dcmtk lets a report name it as an image; of the others models take none."""
    sop_class = UID(source.SOPClassUID)
    odd = (RTDoseStorage, LABEL_MAP_CLASS)
    return not sop_class.is_private and sop_class not in odd


def _hot(distance: np.ndarray) -> np.ndarray:
    return np.exp(-((distance / 0.2) ** 2)).astype(np.float32)


def _refusal(source: Dataset) -> list[ResultObject]:
    reasons = [("benchmark 1.0.0", Refusal("MODALITY_NOT_ACCEPTED", "It takes nothing."))]
    return encode_refusal(reasons, [source], model=MODEL, seed="no", now=NOW, profile=WHOLE)


def _of_series(files: Sequence[Path]) -> list[ResultObject]:
    """Return what a model of volumes could say of the files."""
    with ExitStack() as stack:
        volume = read_series([stack.enter_context(path.open("rb")) for path in files])
    if not all(map(_is_image, volume.headers)):
        return []
    slices, rows, columns = volume.display.shape
    first, second = (np.zeros((slices, rows, columns), bool) for _ in range(2))
    first[
        slices // 4 : slices - slices // 4, rows // 4 : rows // 2, columns // 4 : columns // 2
    ] = 1
    second[slices // 2, -(rows // 3) :, -(columns // 3) :] = 1
    parts = Segment("mass", MASS, first, 1.5), Segment("heart", HEART, second, 2.5)
    uids = tuple(str(ds.SOPInstanceUID) for ds in volume.headers)
    prediction = Prediction(MODEL.identity, uids, (), None, 0.1, segments=parts)
    result = VolumeResult(prediction, volume.headers, volume.display, volume.frame_numbers)
    return [
        item
        for profile in (WHOLE, LABEL_MAP)
        for item in encode_volume(result, model=MODEL, seed="series", now=NOW, profile=profile)
    ]


def _judge(
    files: Sequence[Path], results: Sequence[Path], written: Sequence[ResultObject], folder: Path
) -> Iterator[tuple[str, str, str, bool]]:
    """Yield each complaint: the judge, the file, what it said, and if label maps are about."""
    for path, item in zip(results, written, strict=True):
        is_label_map = "labelmap" in item.variant
        for line in _lines("^(?:Error|Abort)", "dciodvfy", "-new", path):
            yield "dciodvfy", path.name, line, is_label_map
        reader = _READERS.get(item.kind)
        if reader is not None:
            for judge, message in reader(path, folder):
                yield judge, path.name, message, is_label_map
    own = set(_lines("^Error", "dcentvfy", *files))
    for line in _lines("^Error", "dcentvfy", *files, *results):
        if line not in own:
            yield "dcentvfy", "", line, False


def _read_report(path: Path, folder: Path) -> Iterator[tuple[str, str]]:
    for line in _lines("^[EWF]: ", "dsrdump", path):
        yield "dsrdump", line
    if "Basic Text" not in _said("dsrdump", path):
        output = folder / "report.json"
        output.unlink(missing_ok=True)
        said = _said(_DCMQI / "tid1500reader", "--inputDICOM", path, "--outputMetadata", output)
        if not output.exists() or re.search("rror|atal", said):
            yield "tid1500reader", said.strip()[-120:]


def _read_segmentation(path: Path, folder: Path) -> Iterator[tuple[str, str]]:
    for old in folder.glob("mask-*"):
        old.unlink()
    said = _said(
        _DCMQI / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder,
        "--prefix", "mask",
    )  # fmt: skip
    if not list(folder.glob("mask-*.nrrd")):
        yield "segimage2itkimage", said.strip()[-200:]


_DCMQI = Path(sysconfig.get_path("scripts"))
_READERS: dict[str, Callable[[Path, Path], Iterator[tuple[str, str]]]] = {
    "sr": _read_report,
    "seg": _read_segmentation,
}


def _lines(pattern: str, *command: str | Path) -> list[str]:
    return [line for line in _said(*command).splitlines() if re.search(pattern, line)]


def _said(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


def _print(tally: Tally) -> None:
    print(f"{tally.objects} result objects of {tally.sources} files")
    for message, places in tally.failures.items():
        print(f"failed its own check: {len(places)} x {message}\n    {', '.join(places)}")
    judges = ("dciodvfy", "dcentvfy", "dsrdump", "tid1500reader", "segimage2itkimage")
    for reason, count in tally.aside.items():
        print(f"set aside: {count} x {reason}")
    print("\n| judge | objects or bundles with a complaint |\n|---|---|")
    for judge in judges:
        places = {
            place for (who, _), found in tally.said.items() if who == judge for place in found
        }
        print(f"| {judge} | {len(places)} |")
    for (judge, message), places in sorted(tally.said.items(), key=lambda item: -len(item[1])):
        print(f"\n{judge}: {len(places)} x {message}\n    {', '.join(places[:4])}")


if __name__ == "__main__":
    sys.exit(main())
