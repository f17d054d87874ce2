"""Orthanc with our configuration sends studies to Pacsight: once, and not the results."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import pytest
from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from tests.peers.orthanc import Orthanc
from tests.peers.process import wait_until
from tests.peers.storage_scp import StorageScp

pytestmark = pytest.mark.peer

PATIENCE_S = 4.0
"""How long nothing must happen for "never": StableAge 1 s and heartbeat 1 s, doubled"""


@pytest.fixture
def receiver() -> Iterator[StorageScp]:
    receiver = StorageScp("PACSIGHT")
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def forwarding(start_orthanc: Callable[..., Orthanc], receiver: StorageScp) -> Orthanc:
    return start_orthanc(
        FORWARD="yes", FORWARD_TO_AE_TITLE="PACSIGHT", FORWARD_TO_PORT=str(receiver.port)
    )


def instance(
    study: str,
    series: str,
    *,
    modality: str = "DX",
    sop_class_uid: str = DigitalXRayImageStorageForPresentation,
) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = series
    ds.PatientID, ds.PatientName = "1", "Test^Forward"
    ds.Modality = modality
    ds.ensure_file_meta()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def upload(orthanc: Orthanc, ds: Dataset) -> str:
    file = io.BytesIO()
    dcmwrite(file, ds, enforce_file_format=True)
    orthanc.upload(file.getvalue())
    return str(ds.SOPInstanceUID)


def store(orthanc: Orthanc, ds: Dataset, *, calling: str) -> str:
    """Send by C-STORE from an AE title, as Pacsight delivers results."""
    from pynetdicom import AE

    ae = AE(ae_title=calling)
    ae.add_requested_context(ds.SOPClassUID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", orthanc.dicom_port, ae_title=orthanc.ae_title)
    assert association.is_established
    assert association.send_c_store(ds).Status == 0x0000
    association.release()
    return str(ds.SOPInstanceUID)


def is_marked(orthanc: Orthanc, count: int = 1) -> bool:
    marks = [
        orthanc.http.get(f"/series/{series}/metadata/ForwardedToPacsight")
        for series in orthanc.get("/series")
    ]
    return sum(mark.is_success for mark in marks) >= count


def stays(receiver: StorageScp, expected: set[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert set(receiver.stored) == expected
        time.sleep(0.1)
    assert len(receiver.stored) == len(expected)


def test_stable_study_is_sent_once(forwarding: Orthanc, receiver: StorageScp) -> None:
    study, series = generate_uid(), generate_uid()
    sent = {upload(forwarding, instance(study, series)) for _ in range(3)}
    wait_until(lambda: set(receiver.stored) == sent, "forwarding")
    wait_until(lambda: is_marked(forwarding), "the mark")
    stays(receiver, sent)


def test_results_that_come_back_are_not_sent(forwarding: Orthanc, receiver: StorageScp) -> None:
    study = generate_uid()
    source = upload(forwarding, instance(study, generate_uid()))
    wait_until(lambda: receiver.stored == [source], "forwarding")
    wait_until(lambda: is_marked(forwarding), "the mark")

    secondary_capture = instance(
        study, generate_uid(), modality="OT", sop_class_uid=SecondaryCaptureImageStorage
    )
    report = instance(study, generate_uid(), modality="SR", sop_class_uid=ComprehensiveSRStorage)
    store(forwarding, secondary_capture, calling="PACSIGHT")
    store(forwarding, report, calling="PACSIGHT")
    upload(
        forwarding,
        instance(study, generate_uid(), modality="SR", sop_class_uid=ComprehensiveSRStorage),
    )

    stays(receiver, {source})


def test_new_instances_are_sent_when_the_study_is_stable_again(
    forwarding: Orthanc, receiver: StorageScp
) -> None:
    study, series = generate_uid(), generate_uid()
    first = upload(forwarding, instance(study, series))
    wait_until(lambda: is_marked(forwarding), "the first mark")
    same_series = store(forwarding, instance(study, series), calling="MODALITY")
    new_series = store(forwarding, instance(study, generate_uid()), calling="MODALITY")
    wait_until(
        lambda: {first, same_series, new_series} <= set(receiver.stored), "forwarding of the rest"
    )
    wait_until(lambda: is_marked(forwarding, 2), "the second mark")
    assert receiver.stored.count(new_series) == 1


def test_study_waits_for_a_pacsight_that_is_down(
    start_orthanc: Callable[..., Orthanc],
) -> None:
    receiver = StorageScp("PACSIGHT")
    orthanc = start_orthanc(FORWARD="yes", FORWARD_TO_PORT=str(receiver.port))
    sent = upload(orthanc, instance(generate_uid(), generate_uid()))
    wait_until(
        lambda: "Failure" in {job["State"] for job in orthanc.get("/jobs?expand")},
        "the failed job",
    )
    receiver.start()
    # Orthanc before 1.11.1 has no heartbeat: the next study wakes it.
    other = upload(orthanc, instance(generate_uid(), generate_uid()))
    wait_until(lambda: set(receiver.stored) == {sent, other}, "the repetition")
    wait_until(lambda: is_marked(orthanc, 2), "the marks")
    stays(receiver, {sent, other})
    receiver.stop()


def test_study_that_pacsight_refuses_for_now_is_sent_again(
    forwarding: Orthanc, receiver: StorageScp
) -> None:
    receiver.status = 0xA700  # out of resources
    sent = upload(forwarding, instance(generate_uid(), generate_uid()))
    wait_until(lambda: receiver.attempts >= 1, "the first attempt")
    wait_until(
        lambda: "Failure" in {job["State"] for job in forwarding.get("/jobs?expand")},
        "the failed job",
    )
    receiver.status = 0x0000
    upload(forwarding, instance(generate_uid(), generate_uid()))
    wait_until(lambda: sent in receiver.stored, "acceptance")


def test_job_that_failed_before_a_restart_is_repeated(
    start_orthanc: Callable[..., Orthanc],
) -> None:
    receiver = StorageScp("PACSIGHT")
    orthanc = start_orthanc(FORWARD="yes", FORWARD_TO_PORT=str(receiver.port))
    sent = upload(orthanc, instance(generate_uid(), generate_uid()))
    wait_until(
        lambda: "Failure" in {job["State"] for job in orthanc.get("/jobs?expand")},
        "the failed job",
    )
    orthanc.stop()
    receiver.start()
    orthanc.start()
    wait_until(lambda: sent in receiver.stored, "the repetition")
    receiver.stop()


def test_restart_of_orthanc_loses_no_study(
    start_orthanc: Callable[..., Orthanc], receiver: StorageScp
) -> None:
    orthanc = start_orthanc(FORWARD="yes", FORWARD_TO_PORT=str(receiver.port))
    sent = upload(orthanc, instance(generate_uid(), generate_uid()))
    gone = upload(orthanc, instance(generate_uid(), generate_uid()))
    found = orthanc.http.post("/tools/lookup", content=gone).json()[0]
    orthanc.http.delete(found["Path"]).raise_for_status()
    orthanc.kill()  # before the study is stable: Orthanc itself forgets that it was not
    assert receiver.stored == []
    orthanc.start()
    wait_until(lambda: receiver.stored == [sent], "forwarding after the restart")
    stays(receiver, {sent})


def test_nothing_is_forwarded_when_the_modality_sends_to_pacsight_itself(
    start_orthanc: Callable[..., Orthanc], receiver: StorageScp
) -> None:
    orthanc = start_orthanc(FORWARD="no", FORWARD_TO_PORT=str(receiver.port))
    upload(orthanc, instance(generate_uid(), generate_uid()))
    stays(receiver, set())
