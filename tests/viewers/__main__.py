"""``make viewers``: the self-test study in a real OHIF on a real Orthanc, and what it shows.

Pictures go to ``build/viewers/pictures``. Exit status 1 if something is not shown.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dicom_out.destination import Destination
from pacsight.selftest import run_selftest
from pacsight.settings import Settings
from tests.peers.orthanc import Orthanc
from tests.viewers.look import Seen, browser, look
from tests.viewers.ohif import VERSION, fetch, serving

BUILD = Path("build/viewers")
LUNGS = ["Right lung", "Left lung"]
LEAST_COLOURED = 2000


def main() -> int:
    """Run the test set-up and judge what was seen."""
    dist = fetch(BUILD)
    with (
        orthanc_with_study() as (pacs, study_uid),
        serving(dist, pacs.url) as base,
        browser() as page,
    ):
        seen = look(page, base, study_uid, BUILD / "pictures")
    print(f"OHIF {VERSION} on Orthanc")
    faults = 0
    for one in seen:
        fault = fault_of(one)
        faults += fault is not None
        print(f"{one.modality:4} {one.description:55} {fault or 'shown'}  {one.picture}")
    missing = expected_modalities() - {one.modality for one in seen}
    print(f"missing: {', '.join(sorted(missing)) or 'nothing'}")
    return int(bool(faults or missing))


def expected_modalities() -> set[str]:
    """Return what the profile for OHIF sends, with the source."""
    return {"CT", "SR", "SEG", "OT"}


@contextmanager
def orthanc_with_study() -> Iterator[tuple[Orthanc, str]]:
    """An Orthanc that has got the self-test of the profile ``ohif``."""
    with tempfile.TemporaryDirectory() as folder:
        pacs = Orthanc(Path(folder) / "orthanc", {})
        pacs.start()
        try:
            destination = Destination(
                name="ohif",
                ae_title=pacs.ae_title,
                host="127.0.0.1",
                port=pacs.dicom_port,
                profile="ohif",
            )
            shown = run_selftest(Settings(), destination, datetime.now(UTC))
            refused = [row.answer for row in shown if not row.is_delivered]
            if refused:
                raise SystemExit(refused[0])
            (study,) = pacs.http.get("/studies?expand").json()
            yield pacs, study["MainDicomTags"]["StudyInstanceUID"]
        finally:
            pacs.close()


def fault_of(one: Seen) -> str | None:
    """Return what is wrong with what was seen of a series; None if nothing is."""
    if one.state["unsupported"]:
        return "unsupported"
    if one.modality == "SEG":
        return _segments_fault(one)
    if one.modality == "SR":
        return _regions_fault(one.state["regions"])
    if one.modality == "OT" and one.coloured < LEAST_COLOURED:
        return "not in colour"
    if one.complaints:
        return one.complaints[0]
    return None


def _segments_fault(one: Seen) -> str | None:
    if one.state["segments"] != LUNGS:
        return f"segments {one.state['segments']}"
    return None if one.coloured > LEAST_COLOURED else "no coloured overlay"


def _regions_fault(regions: Sequence[dict[str, object]]) -> str | None:
    if len(regions) < len(LUNGS):
        return f"{len(regions)} regions"
    return None if all(region["loaded"] for region in regions) else "a region is not drawn"


if __name__ == "__main__":
    sys.exit(main())
