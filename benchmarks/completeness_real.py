"""Real sends for ``benchmarks.completeness``: dcmtk's or our sender, a listener, Orthanc, MPPS."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep
from sqlalchemy import Engine, select

from dicom_out.delivery import send
from dicom_out.destination import Destination
from ledger.database import migrate, open_database, reading
from ledger.tables import Revision, Study
from pacsight.peers import QueryJournal, ask_source
from pacsight.samples import ct_series
from scp.config import CompletenessConfig, ListenerConfig, Source
from scp.evidence import EvidenceReader
from scp.indexer import index_received
from scp.listener import Listener
from scp.revisions import close_complete_studies
from scp.sources import Sources
from tests.peers.orthanc import Orthanc

SLICES = 60


def send_for_real() -> None:
    """Print when three real studies were declared complete, and why."""
    print(
        "| sent, 60 slices | code | confidence | seconds after the last object |\n|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pacs = Orthanc(folder / "orthanc", {})
        pacs.start()
        try:
            for number, kind in enumerate(("source", "step", "nobody")):
                row = measure(folder / kind, kind, pacs, number)
                print(f"| {row} |", flush=True)
        finally:
            pacs.close()


def measure(folder: Path, kind: str, pacs: Orthanc, seed: int) -> str:
    folder.mkdir()
    engine = open_database(f"sqlite:///{folder / 'ledger.sqlite'}")
    migrate(engine)
    files = write_study(folder, seed)
    if kind == "source":
        for file in files:
            pacs.upload(file.read_bytes())
    source = Source(
        ae_title="ORTHANC", host="127.0.0.1", port=pacs.dicom_port, sends_whole_studies=True
    )
    ask = partial(ask_source, "PACSIGHT", QueryJournal(engine, time.time))
    sources = Sources((source,) if kind == "source" else (), ask)
    reader = EvidenceReader(sources)
    config = ListenerConfig(host="127.0.0.1", port=0, disk_reserve_bytes=0)
    with Listener(config, folder / "spool", engine, "benchmark") as listener:
        to = Destination(name="p", ae_title="PACSIGHT", host="127.0.0.1", port=listener.port)
        if kind == "step":
            announce(listener.port, files)
        receipts = send(files, to, calling_ae_title="ORTHANC")
        assert all(one.is_delivered for one in receipts), [one.code for one in receipts]
        row = wait_for_revision(engine, folder / "spool", reader)
    sources.stop()
    engine.dispose()
    return f"{kind} | {row}"


def write_study(folder: Path, seed: int) -> list[Path]:
    files = []
    for ds in ct_series(seed, slices=SLICES, rows=64, columns=64):
        files.append(folder / f"{ds.SOPInstanceUID}.dcm")
        ds.save_as(files[-1])
    return files


def wait_for_revision(engine: Engine, spool: Path, reader: EvidenceReader) -> str:
    while True:
        now = time.time()
        index_received(engine, spool, now=now)
        if close_complete_studies(engine, CompletenessConfig(), now=now, reader=reader):
            with reading(engine) as session:
                revision = session.scalars(select(Revision)).one()
                last_at = session.scalars(select(Study.last_received_at)).one()
            seconds = revision.created_at - last_at
            return f"{revision.reason_code} | {revision.confidence} | {seconds:.1f}"
        time.sleep(0.1)


def announce(port: int, files: list[Path]) -> None:
    """Begin a procedure step and end it with the list of its images."""
    from pydicom import dcmread

    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    ae = AE(ae_title="CT01")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", port, ae_title="PACSIGHT")
    uid = generate_uid()
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = headers[0].StudyInstanceUID
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    association.send_n_create(step, ModalityPerformedProcedureStep, uid)
    series, images = Dataset(), []
    for header in headers:
        image = Dataset()
        image.ReferencedSOPClassUID = header.SOPClassUID
        image.ReferencedSOPInstanceUID = header.SOPInstanceUID
        images.append(image)
    series.ReferencedImageSequence = images
    end = Dataset()
    end.PerformedProcedureStepStatus = "COMPLETED"
    end.PerformedSeriesSequence = [series]
    association.send_n_set(end, ModalityPerformedProcedureStep, uid)
    association.release()


if __name__ == "__main__":
    send_for_real()
