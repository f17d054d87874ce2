r"""Public sets as they are distributed: labels by folder or by the end of file names.

Such a set has no ``labels.csv``; a recipe's ``data.layout`` says how its pictures are labelled::

    layout:
      by: folder                   # or name-ending: scan_0012_1.png
      labels: {Uninfected: uninfected, Parasitized: parasitized}   # folder or ending -> class
      pictures: "**/*.png"         # which files count
      group: '^(C\d+)'             # part of the file name that pictures of one patient share
      source: '^(MCU|CHN)'         # part of the file name that tells the source
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.errors import LabelsError, OneClassError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm"}


class LayoutSpec(BaseModel):
    """How the pictures of a set without ``labels.csv`` are labelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["folder", "name-ending"]
    """``folder``: the nearest folder above a picture that `labels` names; without case, and
    ``_``, ``-`` and blanks are the same. ``name-ending``: the end of the name before its suffix."""
    labels: dict[str, str] = Field(min_length=1)
    """Class by folder or ending. Pictures that fit none are left out."""
    pictures: str = "**/*"
    """Pattern of the paths below the data folder."""
    group: str = ""
    """Regular expression; what it finds in the file name names the group. Else each is its own."""
    source: str = ""
    """Regular expression; what it finds in the file name names the source."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for key in ("group", "source"):
            try:
                re.compile(getattr(self, key))
            except re.error as error:
                raise ValueError(f"{key} is not a regular expression ({error})") from error
        return self


def layout_rows(folder: Path, layout: LayoutSpec) -> list[dict[str, str]]:
    """Return rows as ``labels.csv`` would have them, without splits, in order of files.

    Sets are often packed with a second copy of themselves inside: of the same picture in the same
    class only the first counts.

    Raises
    ------
    LabelsError
        The folder has no labelled picture, or one picture has two labels.
    OneClassError
        A class has no picture.
    """
    rows = list(_labelled(folder, layout))
    if not rows:
        raise LabelsError(
            f"{folder} has no picture that the recipe's data.layout can label; --data must be the "
            f"folder of the set as it was unpacked, with {_places(layout)}."
        )
    counts = Counter(row["label"] for row in rows)
    for name in dict.fromkeys(layout.labels.values()):
        if not counts[name]:
            raise OneClassError(
                f"{folder} has no picture of class {name!r}; looked for were {_places(layout)}."
            )
    return _without_copies(folder, rows)


def _labelled(folder: Path, layout: LayoutSpec) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob(layout.pictures)):
        file = path.relative_to(folder)
        hidden = any(part.startswith((".", "__MACOSX")) for part in file.parts)
        if hidden or path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file():
            continue
        label = _label(file, layout)
        if label is not None:
            yield {
                "file": file.as_posix(),
                "label": label,
                "group": _found(layout.group, file.name),
                "source": _found(layout.source, file.name),
            }


def _label(file: Path, layout: LayoutSpec) -> str | None:
    if layout.by == "name-ending":
        fitting = [ending for ending in layout.labels if file.stem.endswith(ending)]
        return layout.labels[max(fitting, key=len)] if fitting else None
    classes = {_plain(name): label for name, label in layout.labels.items()}
    names = [_plain(part) for part in reversed(file.parts[:-1])]
    return next((classes[name] for name in names if name in classes), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]+", " ", name).strip().casefold()


def _found(pattern: str, name: str) -> str:
    match = re.search(pattern, name) if pattern else None
    if match is None:
        return ""
    return match[1] if match.re.groups else match[0]


def _without_copies(folder: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    first: dict[str, dict[str, str]] = {}
    for row in rows:
        with (folder / row["file"]).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known = first.setdefault(digest, row)
        if known["label"] != row["label"]:
            raise LabelsError(
                f"{known['file']} and {row['file']} are the same picture with two labels; "
                "remove one or both."
            )
    return list(first.values())


def _places(layout: LayoutSpec) -> str:
    named: Mapping[str, str] = layout.labels
    kind = "folders named" if layout.by == "folder" else "file names that end in"
    return f"{kind} {' or '.join(named)}"
