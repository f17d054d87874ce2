"""``make viewers``: result bundles in a real OHIF on a real Orthanc, and what it shows.

Pictures go to ``build/viewers/<name>``. Exit status 1 if something is not shown.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_out.destination import Destination
from dicom_out.profile import PROFILES, Profile
from pacsight.selftest import FIRST, LAST, SLICES, run_selftest
from pacsight.settings import Settings
from tests.peers.orthanc import Orthanc
from tests.viewers.look import Seen, browser, look
from tests.viewers.ohif import VERSION, fetch, serving
from tests.viewers.studies import Study, enhanced_mr, radiograph

BUILD = Path("build/viewers")
LUNGS = ["Right lung", "Left lung"]
BACKWARDS = tuple(SLICES + 1 - number for number in range(LAST, FIRST - 1, -1))
LEAST_COLOURED = 5000
"""Pixels of a region; the bar of slices that were seen is coloured too."""


@dataclass(frozen=True)
class Case:
    """A study with its bundle, and of which of its series pictures are taken."""

    name: str
    modalities: tuple[str, ...]
    profile: Profile = PROFILES["ohif"]
    make: Callable[[Profile], Study] | None = None
    """None is the self-test itself"""
    slices: tuple[int, ...] = tuple(range(FIRST, LAST + 1))
    """as the viewer counts them, that have regions of the SEG"""
    regions: int = len(LUNGS)
    """of its reports together"""


CASES = (
    Case("ohif", ("CT", "SR", "SEG", "OT", "DOC")),
    Case("label-map", ("SEG",), Profile(name="label-map", seg="labelmap", transfer_syntax="rle")),
    Case("enhanced-mr", ("MR", "SR", "SEG", "OT"), make=enhanced_mr, slices=BACKWARDS),
    Case("radiograph", ("DX", "SR", "OT"), make=radiograph, regions=3),
)


def main() -> int:
    """Send the studies named, or all, and judge what was seen."""
    wanted = sys.argv[1:] or [case.name for case in CASES]
    dist = fetch(BUILD)
    print(f"OHIF {VERSION} on Orthanc")
    faults = 0
    with orthanc() as pacs, serving(dist, pacs.url) as base, browser() as page:
        for case in (case for case in CASES if case.name in wanted):
            study_uid = send_study(pacs, case)
            seen = look(page, base, study_uid, BUILD / case.name, case.modalities)
            for one in seen:
                fault = fault_of(one, case)
                faults += fault is not None
                print(f"{case.name:12} {one.modality:4} {fault or 'shown':20} {one.picture}")
            missing = set(case.modalities) - {one.modality for one in seen}
            drawn = sum(len(one.state["regions"]) for one in seen)
            faults += len(missing) + (drawn != case.regions and "SR" in case.modalities)
            print(f"{case.name:12} missing: {', '.join(sorted(missing)) or 'nothing'}; "
                  f"{drawn} regions of reports", flush=True)  # fmt: skip
    return int(bool(faults))


@contextmanager
def orthanc() -> Iterator[Orthanc]:
    """A private Orthanc."""
    with tempfile.TemporaryDirectory() as folder:
        pacs = Orthanc(Path(folder) / "orthanc", {})
        pacs.start()
        try:
            yield pacs
        finally:
            pacs.close()


def send_study(pacs: Orthanc, case: Case) -> str:
    """Send the study of a case; return its Study Instance UID."""
    before = set(pacs.http.get("/studies").json())
    profile = case.profile
    destination = Destination(
        name="viewer",
        ae_title=pacs.ae_title,
        host="127.0.0.1",
        port=pacs.dicom_port,
        profile=profile.name,
    )
    if case.make is not None:
        case.make(profile).send(destination)
    else:
        settings = Settings(profiles=() if profile.name in PROFILES else (profile,))
        shown = run_selftest(settings, destination, datetime.now(UTC))
        refused = [row.answer for row in shown if not row.is_delivered]
        if refused:
            raise SystemExit(refused[0])
    (new,) = set(pacs.http.get("/studies").json()) - before
    uid: str = pacs.http.get(f"/studies/{new}").json()["MainDicomTags"]["StudyInstanceUID"]
    return uid


def fault_of(one: Seen, case: Case) -> str | None:
    """Return what is wrong with what was seen of a series; None if nothing is."""
    if one.state["unsupported"]:
        return "unsupported"
    if one.modality == "SEG":
        return _segments_fault(one, case.slices)
    if one.modality == "SR":
        return _regions_fault(one.state["regions"])
    if one.modality == "OT" and one.coloured[1].warm < LEAST_COLOURED:
        return "not in colour"
    return one.complaints[0] if one.complaints else None


def _segments_fault(one: Seen, slices: Sequence[int]) -> str | None:
    """Ask for both names, and for each colour on its side of the slices that have regions."""
    labels = [label for label in one.state["segments"] if label != "Background"]
    if labels != LUNGS:
        return f"segments {one.state['segments']}"
    wanted = list(slices)
    for kind in ("warm", "cool"):
        plain = min(getattr(seen, kind) for seen in one.coloured.values())
        drawn = [
            number
            for number, seen in sorted(one.coloured.items())
            if getattr(seen, kind) > plain + LEAST_COLOURED
        ]
        if drawn != wanted:
            return f"{kind} regions on slices {drawn}, not {wanted}"
    if any(
        one.coloured[slice_].warm_column > one.coloured[slice_].cool_column for slice_ in wanted
    ):
        return "the right lung is not on the left of the picture"
    return None


def _regions_fault(regions: Sequence[dict[str, object]]) -> str | None:
    if not regions:
        return "no regions"
    return None if all(region["loaded"] for region in regions) else "a region is not drawn"


if __name__ == "__main__":
    sys.exit(main())
