"""``python -m tests.viewers.without_pacs``: OHIF on Pacsight's own DICOMweb, no PACS beside it.

The study of the self-test comes by STOW-RS. Pictures go to ``build/viewers/without-pacs``. Exit
status 1 if something is not shown.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from pydicom import Dataset

from ledger.database import migrate, open_database
from pacsight.samples import ct_series
from pacsight.selftest import SIDE, SLICES
from tests.viewer_api.conftest import add_people, make_context
from tests.viewer_api.held import add_results, index, part_10
from tests.viewer_api.serving import serving as serving_pacsight
from tests.viewer_api.serving import token_of
from tests.viewers.__main__ import BUILD, Case, fault_of
from tests.viewers.look import browser, look
from tests.viewers.ohif import VERSION, fetch, serving

CASE = Case("without-pacs", ("CT", "SR", "SEG", "OT", "DOC"))


def main() -> int:
    """Show the study and judge what was seen."""
    dist = fetch(BUILD)
    print(f"OHIF {VERSION} on Pacsight")
    slices = ct_series(5, slices=SLICES, rows=SIDE, columns=SIDE)
    faults = 0
    with (
        pacsight(slices) as (url, token),
        serving(dist, url, authorization=f"Bearer {token}") as base,
        browser() as page,
    ):
        study = str(slices[0].StudyInstanceUID)
        seen = look(page, base, study, BUILD / CASE.name, CASE.modalities)
    for one in seen:
        fault = fault_of(one, CASE)
        faults += fault is not None
        print(f"{CASE.name:12} {one.modality:4} {fault or 'shown':20} {one.picture}")
    missing = set(CASE.modalities) - {one.modality for one in seen}
    print(f"{CASE.name:12} missing: {', '.join(sorted(missing)) or 'nothing'}")
    return int(bool(faults or missing))


@contextmanager
def pacsight(slices: list[Dataset]) -> Iterator[tuple[str, str]]:
    """A web app that holds a study with its results; yield its address and a token."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = open_database(f"sqlite:///{folder / 'ledger.sqlite'}")
        migrate(engine)
        context = make_context(engine, folder)
        add_people(context)
        token = token_of(context.database, "rosa", "read", "upload")
        with serving_pacsight(context) as url:
            for one in slices:
                httpx.post(
                    f"{url}/dicom-web/studies", content=part_10(one), trust_env=False,
                    headers={
                        "authorization": f"Bearer {token}", "content-type": "application/dicom",
                    },
                ).raise_for_status()  # fmt: skip
            index(context)
            add_results(context, slices)
            yield url, token
        engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
