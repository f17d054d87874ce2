"""The functional groups of enhanced multi-frame objects (PS3.3 section C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset

from ledger.broken import BROKEN_DATA

_MACROS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "CTReconstructionSequence",
)
_OTHERS = ("ContrastBolusAgentSequence", "RequestAttributesSequence")


def first_frame_items(ds: Dataset) -> Iterator[Dataset]:
    """Yield the items that hold the first frame's place, size and kind; broken ones are left out.

    Shared groups come before those of the frame. Sequences at the top that enhanced objects have in
    place of plain attributes are yielded too.
    """
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        group = first_item(ds, groups)
        if group is not None:
            for macro in _MACROS:
                item = first_item(group, macro)
                if item is not None:
                    yield item
    for keyword in _OTHERS:
        item = first_item(ds, keyword)
        if item is not None:
            yield item


def first_item(ds: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a sequence; None if it is absent, empty or can't be read."""
    try:
        items = ds[keyword].value if keyword in ds else None
        return items[0] if items and isinstance(items[0], Dataset) else None
    except (*BROKEN_DATA, OSError):
        return None
