"""How long one chest X-ray takes: last byte in to the results accepted by the PACS.

    python -m benchmarks.loop [--studies 20] [--out FILE]

A real ``pacsight serve`` on SQLite and a real Orthanc (or a receiver of our own where it is
missing), one study at a time. The quiet period that completeness waits for is subtracted, because a
site chooses it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from dicom_out.delivery import send
from ledger.database import reading
from ledger.queries import find_study, study_report
from pacsight.demonstration import ourselves, running, write_settings
from pacsight.samples import chest_radiograph
from pacsight.settings import Settings, load_settings, open_ledger
from pacsight.stand_in_pacs import start_pacs
from pacsight.waiting import wait_until


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pacs, seconds = measure(Path(folder), options.studies)
    seconds.sort()
    text = (
        f"| chest X-rays | PACS | median s | slowest s |\n|---|---|---|---|\n"
        f"| {len(seconds)} | {pacs} | {statistics.median(seconds):.2f} | {seconds[-1]:.2f} |\n\n"
        f"Beyond the quiet period, one study at a time, on {platform.machine()}.\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text)


def measure(folder: Path, studies: int) -> tuple[str, list[float]]:
    """Return the PACS's name and the seconds of each study but the first, which warms up."""
    seconds = []
    with start_pacs(folder / "pacs") as pacs:
        config = write_settings(folder, Path("checkpoints"), pacs.port)
        settings = load_settings(config)
        with running(config, settings, folder / "pacsight.log"):
            database = open_ledger(settings)
            for seed in range(studies + 1):
                seconds.append(_one(seed, folder, settings, database))
            database.dispose()
    return pacs.name, seconds[1:]


def _one(seed: int, folder: Path, settings: Settings, database: Engine) -> float:
    dataset = chest_radiograph(seed, consolidation=bool(seed % 2))
    path = folder / "radiograph.dcm"
    dataset.save_as(path)
    (receipt,) = send([path], ourselves(settings), calling_ae_title="BENCH")
    if not receipt.is_delivered:
        raise SystemExit(f"{receipt.code}: {receipt.message}")
    report: dict[str, Any] = {}

    def delivered() -> bool:
        with reading(database) as session:
            study = find_study(session, str(dataset.StudyInstanceUID))
            if study is not None:
                report.update(study_report(session, study))
        return report.get("state") == "done"

    if not wait_until(delivered, 120.0):
        raise SystemExit(f"study {seed} ended as {report.get('state')}")
    times = [
        delivery["delivered_at"]
        for decision in report["revisions"][-1]["decisions"]
        for result in decision["results"]
        for delivery in result["deliveries"]
    ]
    return float(max(times) - report["last_received_at"] - settings.completeness.quiet_s)


if __name__ == "__main__":
    main()
