"""Where the frames of an enhanced multi-frame object lie (PS3.3 section C.7.6.16)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from pydicom import Dataset

from inference.errors import (
    GeometryMissingError,
    NotAVolumeError,
    OtherFrameOfReferenceError,
)
from inference.stack import Plane
from ledger.facts import numbers_of
from ledger.functional_groups import first_item

MAX_FRAMES = 1 << 16


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its number from 1, and where it lies."""

    number: int
    plane: Plane


def frames_of(header: Dataset) -> tuple[list[Frame], int]:
    """Return the frames of the object's first volume, and how many volumes it holds.

    Frames of one temporal position and one stack (PS3.3 C.7.6.16.2.2) make a volume. The first is
    the earliest one; of several stacks the one with the most frames.

    Raises
    ------
    NotAVolumeError
        The object doesn't say where in the patient its frames lie, as ultrasound loops and
        Enhanced US Volumes (PS3.3 C.8.24.3) don't.
    """
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        raise GeometryMissingError("The frames of the object don't say where they lie.")
    if first_item(groups[0], "PlanePositionVolumeSequence") is not None:
        raise OtherFrameOfReferenceError(
            "The frames lie in the ultrasound volume's own frame of reference, not in the "
            "patient's; such volumes can't be analysed."
        )
    if len(groups) > MAX_FRAMES or len(groups) != int(header.get("NumberOfFrames") or 1):
        raise NotAVolumeError("The object describes another number of frames than it has.")
    shared = first_item(header, "SharedFunctionalGroupsSequence") or Dataset()
    volumes: dict[tuple[int, str], list[Frame]] = defaultdict(list)
    for number, group in enumerate(groups, 1):
        content = first_item(group, "FrameContentSequence") or Dataset()
        time = content.get("TemporalPositionIndex")
        key = (time if isinstance(time, int) else 0, str(content.get("StackID") or ""))
        volumes[key].append(Frame(number, _plane(header, group, shared)))
    first = min(volumes, key=lambda key: (key[0], -len(volumes[key]), key[1]))
    return volumes[first], len(volumes)


def _plane(header: Dataset, group: Dataset, shared: Dataset) -> Plane:
    def numbers(macro: str, keyword: str, count: int) -> tuple[float, ...]:
        for place in (group, shared):
            item = first_item(place, macro)
            if item is not None:
                return numbers_of(item, keyword, count)
        return ()

    return Plane(
        numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        (int(header.Rows), int(header.Columns)),
        str(header.get("FrameOfReferenceUID") or ""),
    )
