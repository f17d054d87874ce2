"""The left atrium of the same volumes by two ways: as NIfTI file, and as MR series by C-STORE.

Each volume of a folder in the layout of ``labels.csv`` is analysed in memory from its NIfTI file;
then it is written as MR slices, sent in shuffled order to a real ``pacsight serve``, and the volume
is read from the SR and counted in the SEG that come back::

    python -m benchmarks.left_atrium --data DIR [--split val]

Ends with status 1 if a pair differs by more than 1 %.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from sqlalchemy import Engine

from dicom_out.delivery import send
from dicom_out.volume import volume_to_dicom
from inference.model_server import ModelServer
from inference.nifti import read_nifti
from inference.registry import scan_models
from ledger.database import reading
from ledger.queries import find_study, study_report
from pacsight.demonstration import ourselves, running, write_settings
from pacsight.settings import Settings, load_settings, open_ledger
from pacsight.stand_in_pacs import start_pacs
from pacsight.waiting import wait_until

MODEL = "left-atrium"
REPOSITORY = Path(__file__).parents[1]
LARGEST_DIFFERENCE = 0.01


def main() -> int:
    """Compare every volume; print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    options = parser.parse_args()
    with (options.data / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == options.split]
    with tempfile.TemporaryDirectory() as folder:
        found = compare([options.data / row["file"] for row in rows], Path(folder))
    print("| volume | NIfTI ml | SR ml | SEG ml | difference |\n|---|---|---|---|---|")
    worst = 0.0
    for name, nifti_ml, sr_ml, seg_ml in found:
        difference = max(abs(sr_ml - nifti_ml), abs(seg_ml - nifti_ml)) / nifti_ml
        worst = max(worst, difference)
        print(f"| {name} | {nifti_ml:.2f} | {sr_ml:.2f} | {seg_ml:.2f} | {difference:.2%} |")
    return int(worst > LARGEST_DIFFERENCE)


def compare(volumes: list[Path], folder: Path) -> list[tuple[str, float, float, float]]:
    """Return name and millilitres of each volume: by NIfTI, in the SR, in the SEG."""
    models = folder / "models"
    shutil.copytree(REPOSITORY / "checkpoints" / MODEL, models / MODEL)
    found = []
    with start_pacs(folder / "pacs") as pacs:
        config = write_settings(folder, models, pacs.port)
        settings = load_settings(config)
        server = ModelServer(scan_models(models), settings.inference_config(), has_gates=True)
        with running(config, settings, folder / "pacsight.log"):
            database = open_ledger(settings)
            for path in volumes:
                (segment,) = server.predict(MODEL, read_nifti(path)).segments
                results = _by_network(path, folder, settings, database)
                found.append((path.name, segment.volume_ml or 0.0, *results))
            database.dispose()
    return found


def _by_network(
    path: Path, folder: Path, settings: Settings, database: Engine
) -> tuple[float, float]:
    """Send a volume as a series and return the millilitres of the SR and of the SEG."""
    volume = read_nifti(path)
    slices = volume_to_dicom(volume.array, volume.affine, seed=path.name, now=datetime.now(UTC))
    files = []
    for number, ds in enumerate(slices):
        ds.BodyPartExamined, ds.SeriesDescription = "HEART", "LGE 3D"
        files.append(folder / f"{number:04}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    random.Random(1).shuffle(files)
    receipts = send(files, ourselves(settings), calling_ae_title="BENCH")
    if not all(receipt.is_delivered for receipt in receipts):
        raise SystemExit("the series was not taken")
    report: dict[str, Any] = {}

    def delivered() -> bool:
        with reading(database) as session:
            study = find_study(session, str(slices[0].StudyInstanceUID))
            if study is not None:
                report.update(study_report(session, study))
        return report.get("state") == "done"

    if not wait_until(delivered, 300.0):
        raise SystemExit(f"the study ended as {report.get('state')}")
    kinds = _results(settings, report)
    return _volume_of_report(kinds["sr"]), _volume_of_segmentation(kinds["seg"])


def _results(settings: Settings, report: dict[str, Any]) -> dict[str, Dataset]:
    """Return the delivered report and segmentation, from the bytes that were sent."""
    (decision,) = report["revisions"][-1]["decisions"]
    wanted = {
        item["sop_instance_uid"]: item["kind"]
        for item in decision["results"]
        if all(delivery["state"] == "delivered" for delivery in item["deliveries"])
    }
    found = {}
    for path in (settings.data_dir / "results").rglob("*.dcm"):
        if path.stem in wanted and wanted[path.stem] in {"sr", "seg"}:
            found[wanted[path.stem]] = dcmread(path)
    return found


def _volume_of_report(report: Dataset) -> float:
    """Return the value of Volume (SCT 118565006) in millilitres."""
    for element in (one for one in report.iterall() if one.keyword == "ContentSequence"):
        for item in element.value:
            name = item.get("ConceptNameCodeSequence")
            if item.get("ValueType") == "NUM" and name and name[0].CodeValue == "118565006":
                return float(item.MeasuredValueSequence[0].NumericValue)
    raise SystemExit("the report names no volume")


def _volume_of_segmentation(ds: Dataset) -> float:
    """Return the voxels that are set, times their size, in millilitres."""
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    between = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness)
    voxel = float(np.prod([float(value) for value in measures.PixelSpacing])) * between
    return float(np.count_nonzero(ds.pixel_array)) * voxel / 1000.0


if __name__ == "__main__":
    sys.exit(main())
