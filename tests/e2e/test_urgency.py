"""STAT goes first, from a real listener to a real PACS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset
from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation
from sqlalchemy import func, select

from ledger.database import reading
from ledger.tables import Delivery, Job, ReceivedObject, Revision, Study
from pacsight.samples import chest_radiograph
from pacsight.work import Stage
from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.service import Service

pytestmark = pytest.mark.peer
ROUTINE = 4
HIGH, MEDIUM = 1, 0


@pytest.fixture
def service(
    tmp_path: Path, start_orthanc: Callable[..., Orthanc], postgres_url: str
) -> Iterator[Service]:
    pacs = start_orthanc()
    made = Service(tmp_path / "service", pacs_port=pacs.dicom_port, database_url=postgres_url)
    yield made
    made.stop()


def _store(service: Service, ds: FileDataset, priority: int) -> None:
    ae = AE(ae_title="DX01")
    ae.add_requested_context(DigitalXRayImageStorageForPresentation)
    association = ae.associate("127.0.0.1", service.port, ae_title="PACSIGHT")
    assert association.send_c_store(ds, priority=priority).Status == 0x0000
    association.release()


def test_urgent_study_overtakes_the_routine_ones_that_wait(service: Service) -> None:
    service.start("scp")
    for seed in range(ROUTINE):
        _store(service, chest_radiograph(seed, consolidation=False), MEDIUM)
    urgent = chest_radiograph(ROUTINE, consolidation=True)
    _store(service, urgent, HIGH)  # the last one to come
    service.start("worker")

    def delivered() -> bool:
        with reading(service.ledger) as session:
            studies = session.scalar(select(func.count(func.distinct(Revision.study_id))))
            waiting = session.scalar(
                select(func.count(Delivery.id)).where(Delivery.delivered_at.is_(None))
            )
            some = session.scalar(select(func.count(Delivery.id))) or 0
        return studies == ROUTINE + 1 and waiting == 0 and some >= 2 * (ROUTINE + 1)

    wait_until(delivered, "every result at the PACS", timeout_s=120)
    with reading(service.ledger) as session:
        assert session.scalar(select(func.count(ReceivedObject.id))) == ROUTINE + 1
        begun = session.execute(
            select(Study.study_instance_uid, Revision.is_stat)
            .join(Revision, Revision.study_id == Study.id)
            .join(Job, Job.revision_id == Revision.id)
            .where(Job.stage == Stage.PREDICT)
            .order_by(Job.started_at)
        ).all()
    assert [is_stat for _, is_stat in begun].count(True) == 1
    place = [uid for uid, _ in begun].index(str(urgent.StudyInstanceUID))
    assert place <= 2  # those that a worker had taken up already go on
