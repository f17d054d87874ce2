"""The self-test: what a destination gets, and what is said of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from pacsight.cli import app
from pacsight.commands.output import WIDTH_IN_FILES
from pacsight.errors import NotFoundError, SelfTestError
from tests.dicom_out.scripted_pacs import scripted_pacs
from tests.peers.orthanc import Orthanc


def config(folder: Path, port: int, profile: str) -> Path:
    file = folder / "pacsight.yaml"
    file.write_text(
        f"destinations: [{{name: pacs, ae_title: ANY, host: 127.0.0.1, port: {port}, "
        f"profile: {profile}}}]\n"
        "profiles: [{name: packed, seg: labelmap, transfer_syntax: rle}]\n"
    )
    return file


def run(file: Path, *options: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, ["--config", str(file), "selftest", *options])
    return done.exit_code, done.output, done.exception


@pytest.mark.peer
def test_orthanc_gets_the_study_with_its_bundle(orthanc: Orthanc, tmp_path: Path) -> None:
    file = config(tmp_path, orthanc.dicom_port, "packed")
    status, output, _ = run(file, "--to", "pacs", "--json")
    assert status == 0
    rows = {row["kind"]: row for row in json.loads(output)}
    counts = {kind: row["count"] for kind, row in rows.items()}
    assert counts.pop("sc") > 1
    assert counts == {"source": 12, "sr": 1, "seg": 1}
    assert "compressed" in rows["seg"]["answer"]
    assert "compressed" not in rows["sr"]["answer"]
    found = [
        dcmread(io.BytesIO(orthanc.http.get(f"/instances/{item['ID']}/file").content))
        for item in orthanc.instances()
    ]
    mine = [ds for ds in found if ds.PatientID == "PACSIGHT-SELFTEST"]
    assert len({ds.StudyInstanceUID for ds in mine}) == 1
    (seg,) = (ds for ds in mine if ds.Modality == "SEG")
    (ct, *_) = (ds for ds in mine if ds.Modality == "CT")
    columns = {number: np.nonzero(seg.pixel_array == number)[-1] for number in (1, 2)}
    assert columns[1].max() < ct.Columns / 2 <= columns[2].min()
    lungs = seg.pixel_array > 0
    assert 0.05 < lungs.mean() < 0.5
    assert seg.NumberOfFrames == 7  # slices 3 to 9


def test_what_is_refused_is_said_with_its_code(tmp_path: Path) -> None:
    with scripted_pacs() as pacs:  # takes no CT and no SEG
        status, output, error = run(config(tmp_path, pacs.port, "generic-pacs"), "--to", "pacs")
    assert status == 1
    assert isinstance(error, SelfTestError)
    assert "source, seg" in str(error)
    assert "CONTEXT_NOT_ACCEPTED" in str(error)
    assert "Left lung" in output
    assert all(len(line) <= WIDTH_IN_FILES for line in output.splitlines())


def test_unknown_destination_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    _, _, error = run(config(tmp_path, 1, "ohif"), "--to", "pac")
    assert isinstance(error, NotFoundError)
    assert "'pacs'" in str(error)
