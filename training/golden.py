"""The golden case of a checkpoint: a generated picture and the answer it gave when it was made.

The picture is made of smooth waves from a seed: no patient's, the same on every machine, and stored
as two numbers. A checkpoint that answers otherwise is not the one that was evaluated, or runs on a
broken engine.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from inference.reading import read_image
from inference.source_image import SourceImage
from inference.volume import Volume
from training.errors import GoldenCaseError

GOLDEN_NAME = "golden.json"
TOLERANCE = 0.005
WAVES = 12


class GoldenCase(BaseModel):
    """The content of ``golden.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["waves"] = "waves"
    seed: int
    rows: int
    columns: int
    slices: int = 0
    """Of a volume; 0: a picture."""
    probabilities: dict[str, float]
    """By label: of a finding, of the best box; of a segment the share that it covers."""
    tolerance: float = TOLERANCE


def golden_source(case: GoldenCase) -> SourceImage | Volume:
    """Return what the case asks about."""
    if case.slices:
        return golden_volume(case.seed, case.slices, case.rows, case.columns)
    return golden_picture(case.seed, case.rows, case.columns)


def golden_volume(seed: int, slices: int, rows: int, columns: int) -> Volume:
    """Return slices of drifting waves, 1 mm apart in every direction, without headers."""
    planes = [wave_pattern(seed + number // 4, rows, columns) for number in range(slices)]
    return Volume(np.stack(planes).astype(np.float32), np.eye(4), ())


def golden_picture(seed: int, rows: int, columns: int) -> SourceImage:
    """Return the generated picture, read back from PNG by serving's reader."""
    file = io.BytesIO()
    Image.fromarray(wave_pattern(seed, rows, columns)).save(file, "PNG")
    file.seek(0)
    return read_image(file)


def wave_pattern(seed: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Return waves of several lengths and directions, uint8 [rows, columns]."""
    y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
    total = np.zeros((rows, columns))
    for wave in range(WAVES):
        # Fractions of multiples of the golden ratio: spread like random numbers, equal everywhere.
        direction, phase, length = (
            math.modf((seed * 3 + wave * 7 + part + 1) * 0.6180339887498949)[0] for part in range(3)
        )
        angle, frequency = math.pi * direction, 1.0 + 11.0 * length
        along = x * math.cos(angle) + y * math.sin(angle)
        total += np.cos(2.0 * math.pi * (frequency * along + phase)) / frequency
    low, high = total.min(), total.max()
    return np.asarray(np.round(255.0 * (total - low) / (high - low)), np.uint8)


def read_golden(folder: Path) -> GoldenCase:
    """Read ``golden.json``.

    Raises
    ------
    GoldenCaseError
        It is missing or can't be read.
    """
    try:
        text = (folder / GOLDEN_NAME).read_text(encoding="utf-8")
        return GoldenCase.model_validate_json(text)
    except FileNotFoundError as error:
        raise GoldenCaseError(f"{GOLDEN_NAME} is missing.") from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise GoldenCaseError(f"{GOLDEN_NAME} can't be read.") from error


def write_golden(folder: Path, case: GoldenCase) -> None:
    """Write ``golden.json``."""
    text = json.dumps(case.model_dump(), indent=2, ensure_ascii=False)
    (folder / GOLDEN_NAME).write_text(text + "\n", encoding="utf-8")
