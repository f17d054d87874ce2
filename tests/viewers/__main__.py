"""``make viewers``: the self-test study in a real OHIF on a real Orthanc, and what it shows.

Pictures go to ``build/viewers/<profile>``. Exit status 1 if something is not shown.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dicom_out.destination import Destination
from dicom_out.profile import PROFILES, Profile
from pacsight.selftest import FIRST, LAST, run_selftest
from pacsight.settings import Settings
from tests.peers.orthanc import Orthanc
from tests.viewers.look import Seen, browser, look
from tests.viewers.ohif import VERSION, fetch, serving

BUILD = Path("build/viewers")
LUNGS = ["Right lung", "Left lung"]
LEAST_COLOURED = 5000
"""Pixels of a region; the bar of slices that were seen is coloured too."""


PACKED = Profile(name="label-map", seg="labelmap", transfer_syntax="rle")
LOOKS = {PROFILES["ohif"]: ("CT", "SR", "SEG", "OT", "DOC"), PACKED: ("SEG",)}
"""Profiles, and of which objects of their bundle pictures are taken."""


def main() -> int:
    """Run the test set-up and judge what was seen."""
    dist = fetch(BUILD)
    print(f"OHIF {VERSION} on Orthanc")
    faults = 0
    with orthanc() as pacs, serving(dist, pacs.url) as base, browser() as page:
        for profile, modalities in LOOKS.items():
            study_uid = send_study(pacs, profile)
            seen = look(page, base, study_uid, BUILD / profile.name, modalities)
            for one in seen:
                fault = fault_of(one)
                faults += fault is not None
                print(f"{profile.name:10} {one.modality:4} {fault or 'shown':20} {one.picture}")
            missing = set(modalities) - {one.modality for one in seen}
            faults += len(missing)
            print(f"{profile.name:10} missing: {', '.join(sorted(missing)) or 'nothing'}")
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


def send_study(pacs: Orthanc, profile: Profile) -> str:
    """Send the self-test of a profile; return its Study Instance UID."""
    before = set(pacs.http.get("/studies").json())
    settings = Settings(profiles=() if profile.name in PROFILES else (profile,))
    destination = Destination(
        name="viewer",
        ae_title=pacs.ae_title,
        host="127.0.0.1",
        port=pacs.dicom_port,
        profile=profile.name,
    )
    shown = run_selftest(settings, destination, datetime.now(UTC))
    refused = [row.answer for row in shown if not row.is_delivered]
    if refused:
        raise SystemExit(refused[0])
    (new,) = set(pacs.http.get("/studies").json()) - before
    uid: str = pacs.http.get(f"/studies/{new}").json()["MainDicomTags"]["StudyInstanceUID"]
    return uid


def fault_of(one: Seen) -> str | None:
    """Return what is wrong with what was seen of a series; None if nothing is."""
    if one.state["unsupported"]:
        return "unsupported"
    if one.modality == "SEG":
        return _segments_fault(one)
    if one.modality == "SR":
        return _regions_fault(one.state["regions"])
    if one.modality == "OT" and one.coloured[1] < LEAST_COLOURED:
        return "not in colour"
    return one.complaints[0] if one.complaints else None


def _segments_fault(one: Seen) -> str | None:
    """Ask for both names, and for colour on the slices that have regions and on no other."""
    labels = [label for label in one.state["segments"] if label != "Background"]
    if labels != LUNGS:
        return f"segments {one.state['segments']}"
    plain = min(one.coloured.values())
    drawn = [
        number for number, pixels in sorted(one.coloured.items()) if pixels > plain + LEAST_COLOURED
    ]
    wanted = list(range(FIRST, LAST + 1))
    return None if drawn == wanted else f"regions on slices {drawn}, not {wanted}"


def _regions_fault(regions: Sequence[dict[str, object]]) -> str | None:
    if len(regions) < len(LUNGS):
        return f"{len(regions)} regions"
    return None if all(region["loaded"] for region in regions) else "a region is not drawn"


if __name__ == "__main__":
    sys.exit(main())
