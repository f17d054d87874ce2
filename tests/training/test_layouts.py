"""Data sets without labels.csv, as they are distributed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from training.errors import LabelsError, OneClassError
from training.layouts import LayoutSpec, layout_rows

FOLDERS = LayoutSpec(by="folder", labels={"Mouth Ulcer": "ulcer", "Data caries": "caries"})


def fill(folder: Path, *files: str) -> Path:
    """Write files that are all different."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode())
    return folder


def labels(rows: list[dict[str, str]]) -> dict[str, str]:
    return {row["file"]: row["label"] for row in rows}


def test_nearest_folder_of_a_known_name_gives_the_class(tmp_path: Path) -> None:
    fill(tmp_path, "Mouth_ulcer/a.jpg", "DATA-CARIES/new/b.PNG", "Data caries/mouth ulcer/c.jpg")
    assert labels(layout_rows(tmp_path, FOLDERS)) == {
        "DATA-CARIES/new/b.PNG": "caries",
        "Data caries/mouth ulcer/c.jpg": "ulcer",
        "Mouth_ulcer/a.jpg": "ulcer",
    }


def test_what_is_no_picture_of_the_set_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "data caries/a.jpg", "mouth ulcer/b.jpg")
    fill(tmp_path, "mouth ulcer/Thumbs.db", "__MACOSX/mouth ulcer/._b.jpg", "mouth ulcer/.c.jpg")
    fill(tmp_path, "hypodontia/d.jpg", "e.jpg")
    (tmp_path / "mouth ulcer/folder.jpg").mkdir()
    assert list(labels(layout_rows(tmp_path, FOLDERS))) == [
        "data caries/a.jpg",
        "mouth ulcer/b.jpg",
    ]


def test_end_of_the_name_gives_the_class_and_its_parts_group_and_source(tmp_path: Path) -> None:
    layout = LayoutSpec(
        by="name-ending",
        labels={"_0": "normal", "_1": "tuberculosis", "_11": "normal"},
        pictures="**/CXR_png/*.png",
        group=r"_(\d+)_",
        source="^[A-Z]{3}",
    )
    fill(tmp_path, "m/CXR_png/MCUCXR_0001_0.png", "s/CXR_png/CHNCXR_0002_1.png")
    fill(tmp_path, "s/CXR_png/CHNCXR_0003_11.png", "m/mask/MCUCXR_0001_0.png")
    rows = layout_rows(tmp_path, layout)
    assert [list(row.values()) for row in rows] == [
        ["m/CXR_png/MCUCXR_0001_0.png", "normal", "0001", "MCU"],
        ["s/CXR_png/CHNCXR_0002_1.png", "tuberculosis", "0002", "CHN"],
        ["s/CXR_png/CHNCXR_0003_11.png", "normal", "0003", "CHN"],
    ]


def test_second_copy_of_the_set_inside_counts_once(tmp_path: Path) -> None:
    for folder in ("caries", "cells/caries"):
        fill(tmp_path, f"{folder}/a.png", f"{folder}/b.png")
        (tmp_path / folder / "a.png").write_bytes(b"the same")
    layout = LayoutSpec(by="folder", labels={"caries": "caries"})
    assert Counter(Path(file).name for file in labels(layout_rows(tmp_path, layout))) == {
        "a.png": 1,
        "b.png": 2,
    }


def test_one_picture_with_two_labels_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "data caries/a.jpg", "mouth ulcer/b.jpg")
    (tmp_path / "mouth ulcer/b.jpg").write_bytes((tmp_path / "data caries/a.jpg").read_bytes())
    with pytest.raises(LabelsError, match=r"caries/a.jpg and mouth ulcer/b.jpg are the same"):
        layout_rows(tmp_path, FOLDERS)


def test_another_folder_is_refused_with_what_is_looked_for(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    with pytest.raises(LabelsError, match="folders named Mouth Ulcer or Data caries"):
        layout_rows(tmp_path, FOLDERS)


def test_class_without_pictures_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "mouth ulcer/a.jpg")
    with pytest.raises(OneClassError, match="no picture of class 'caries'"):
        layout_rows(tmp_path, FOLDERS)


def test_wrong_expression_is_refused() -> None:
    with pytest.raises(ValidationError, match="group is not a regular expression"):
        LayoutSpec(by="folder", labels={"a": "a"}, group="(")
