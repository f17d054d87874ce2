"""The demo as a newcomer runs it, with and without Orthanc."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import pacsight.demonstration
from pacsight.demonstration import CONVERTED, MARKER, demonstrate, fresh_folder
from pacsight.errors import OperationError
from pacsight.samples import chest_radiograph
from pacsight.stand_in_pacs import start_receiver
from tests.service import REPOSITORY, one_model


def test_demo_prints_one_table_and_leaves_results_and_pictures(tmp_path: Path) -> None:
    program = shutil.which("pacsight", path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run(
        [program, "demo", "--out", str(tmp_path / "demo")],
        cwd=REPOSITORY,
        env={**os.environ, "PACSIGHT_MODELS_DIR": str(one_model())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Pneumonia: ") == 3
    assert "MODALITY_NOT_ACCEPTED (1)" in done.stdout
    assert done.stdout.count("SR + SC") == 3
    assert len(list((tmp_path / "demo" / "results").glob("*.dcm"))) == 6
    for picture in (tmp_path / "demo" / "pictures").iterdir():
        with Image.open(picture) as image:
            assert image.width >= 480


def test_own_folder_without_orthanc_shows_what_was_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacsight.demonstration, "start_pacs", start_receiver)
    own = tmp_path / "own"
    own.mkdir()
    chest_radiograph(1, consolidation=False, rows=400, columns=300).save_as(own / "whole.dcm")
    chest_radiograph(2, consolidation=False, rows=400, columns=300).save_as(own / "cut.dcm")
    data = (own / "cut.dcm").read_bytes()
    (own / "cut.dcm").write_bytes(data[: len(data) // 2])
    (own / "notes.txt").write_text("a stray file")
    said: list[str] = []
    outcomes = demonstrate([own], fresh_folder(tmp_path / "out"), one_model(), said.append)
    assert "own" in said[0]
    assert any("notes.txt: NOT_DICOM" in sentence for sentence in said)
    (study,) = outcomes.studies
    assert study.is_well
    assert len(study.results) == 2
    assert [item["code"] for item in outcomes.quarantined] == ["TRUNCATED"]


def test_folder_of_an_earlier_demo_keeps_only_the_converted_models(tmp_path: Path) -> None:
    folder = fresh_folder(tmp_path / "demo")
    for name in ("data/spool/old", f"{CONVERTED}/model.xml"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "pacsight.log").touch()
    fresh_folder(folder)
    assert {path.name for path in folder.iterdir()} == {MARKER, CONVERTED}
    assert (folder / CONVERTED / "model.xml").exists()


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(OperationError, match="choose an empty one"):
        fresh_folder(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
