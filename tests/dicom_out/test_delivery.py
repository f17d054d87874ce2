"""Sending: to a peer that misbehaves on purpose, to dcmtk and to Orthanc."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import MediaStorageDirectoryStorage, RLELossless
from pynetdicom import evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage, Verification

from dicom_out import delivery
from dicom_out.delivery import echo, send
from dicom_out.destination import DeliveryReceipt, Destination, Outcome
from dicom_out.encodings import encode_as
from dicom_out.profile import TRANSFER_SYNTAXES
from tests.dicom_out.factories import encode, read, source
from tests.dicom_out.scripted_pacs import always, scripted_pacs
from tests.peers.orthanc import Orthanc
from tests.peers.process import Process, free_port, program


def to(port: int, *, ae_title: str = "PACS", timeout_s: float = 5.0) -> Destination:
    return Destination(
        name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, timeout_s=timeout_s
    )


def sent(files: list[Path], destination: Destination) -> list[DeliveryReceipt]:
    return send(files, destination, calling_ae_title="PACSIGHT")


def codes(receipts: list[DeliveryReceipt]) -> list[str]:
    return [receipt.code for receipt in receipts]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A report and its capture as files."""
    folder = tmp_path_factory.mktemp("results")
    paths = []
    for item in encode(source())[:2]:
        paths.append(folder / f"{item.sop_instance_uid}.dcm")
        paths[-1].write_bytes(item.data)
    return paths


def test_each_object_gets_a_receipt_in_order(results: list[Path]) -> None:
    with scripted_pacs() as pacs:
        receipts = sent(results, to(pacs.port))
    assert [receipt.sop_instance_uid for receipt in receipts] == [path.stem for path in results]
    assert all(receipt.outcome is Outcome.ACCEPTED for receipt in receipts)
    assert all(receipt.status == 0 and receipt.is_delivered for receipt in receipts)
    assert pacs.calling_ae_titles == ["PACSIGHT"] * 2
    assert len(set(pacs.message_ids)) == 2


def test_the_bytes_of_the_file_go_out_unchanged_each_time(results: list[Path]) -> None:
    with scripted_pacs() as pacs:
        sent(results, to(pacs.port))
        sent(results, to(pacs.port))
    assert pacs.data_sets[:2] == pacs.data_sets[2:]
    for path, data_set in zip(results, pacs.data_sets, strict=False):
        assert path.read_bytes().endswith(data_set)


def test_a_destination_may_want_another_calling_ae_title(results: list[Path]) -> None:
    with scripted_pacs() as pacs:
        destination = to(pacs.port).model_copy(update={"calling_ae_title": "AI_ROOM_7"})
        sent(results[:1], destination)
    assert pacs.calling_ae_titles == ["AI_ROOM_7"]


def test_only_what_the_files_need_is_proposed(results: list[Path]) -> None:
    with scripted_pacs() as pacs:
        sent([*results, *results], to(pacs.port))
    assert pacs.contexts == 2


def test_a_warning_is_a_delivery(results: list[Path]) -> None:
    with scripted_pacs(always(0xB000)) as pacs:
        receipts = sent(results, to(pacs.port))
    assert codes(receipts) == ["STORED_WITH_WARNING"] * 2
    assert all(receipt.is_delivered and receipt.status == 0xB000 for receipt in receipts)


def test_one_refused_object_does_not_stop_the_others(results: list[Path]) -> None:
    with scripted_pacs(lambda _, number: 0xA700 if number == 1 else 0x0000) as pacs:
        first, second = sent(results, to(pacs.port))
    assert (first.code, first.is_retryable, first.status) == ("OUT_OF_RESOURCES", True, 0xA700)
    assert second.is_delivered


def test_an_object_that_can_not_be_understood_is_not_tried_again(results: list[Path]) -> None:
    with scripted_pacs(always(0xC001)) as pacs:
        receipts = sent(results, to(pacs.port))
    assert codes(receipts) == ["REFUSED"] * 2
    assert not any(receipt.is_retryable for receipt in receipts)


def test_a_peer_without_the_context_refuses_only_those_objects(results: list[Path]) -> None:
    with scripted_pacs(sop_classes=[SecondaryCaptureImageStorage]) as pacs:
        report, capture = sent(results, to(pacs.port))
    assert (report.code, report.is_retryable) == ("CONTEXT_NOT_ACCEPTED", False)
    assert report.sop_instance_uid == results[0].stem
    assert capture.is_delivered


def test_a_peer_that_accepts_no_context_at_all_is_told_apart(results: list[Path]) -> None:
    with scripted_pacs(sop_classes=[Verification]) as pacs:
        assert codes(sent(results, to(pacs.port))) == ["CONTEXT_NOT_ACCEPTED"] * 2


def test_an_abort_between_objects_costs_only_the_rest(results: list[Path]) -> None:
    def abort_at_second(event: evt.Event, number: int) -> int:
        if number == 2:
            event.assoc.abort()
        return 0x0000

    with scripted_pacs(abort_at_second) as pacs:
        receipts = sent([*results, *results], to(pacs.port))
    assert codes(receipts) == ["STORED", *["CONNECTION_LOST"] * 3]
    assert all(receipt.is_retryable for receipt in receipts[1:])
    assert all(receipt.sop_instance_uid for receipt in receipts)


def test_a_peer_that_never_answers_is_left_after_the_timeout(results: list[Path]) -> None:
    release = threading.Event()

    def hang(_: evt.Event, number: int) -> int:
        release.wait(20)
        return 0x0000

    with scripted_pacs(hang) as pacs:
        receipts = sent(results, to(pacs.port, timeout_s=0.5))
        release.set()
    assert codes(receipts) == ["CONNECTION_LOST"] * 2


def test_a_slow_peer_within_the_timeout_is_waited_for(results: list[Path]) -> None:
    pause = threading.Event()

    def slow(_: evt.Event, number: int) -> int:
        pause.wait(0.4)
        return 0x0000

    with scripted_pacs(slow) as pacs:
        assert codes(sent(results, to(pacs.port, timeout_s=10))) == ["STORED"] * 2


def test_nobody_listens(results: list[Path]) -> None:
    receipts = sent(results, to(free_port()))
    assert codes(receipts) == ["DESTINATION_UNREACHABLE"] * 2
    assert all(receipt.is_retryable and receipt.sop_instance_uid for receipt in receipts)


def test_a_host_that_does_not_exist(results: list[Path]) -> None:
    destination = to(104).model_copy(update={"host": "no-such-host.invalid"})
    assert codes(sent(results, destination)) == ["DESTINATION_UNREACHABLE"] * 2


def test_a_wrong_ae_title_is_said(results: list[Path]) -> None:
    with scripted_pacs(require_called_ae_title="OTHER") as pacs:
        (receipt, _) = sent(results, to(pacs.port))
    assert receipt.code == "ASSOCIATION_REJECTED"
    assert receipt.is_retryable
    assert "AE title" in receipt.message


@pytest.fixture
def hanging_up() -> Iterator[int]:
    """A port where somebody reads the association request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(10_000)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_peer_that_hangs_up_on_the_request(results: list[Path], hanging_up: int) -> None:
    assert codes(sent(results, to(hanging_up))) == ["ASSOCIATION_ABORTED"] * 2


def test_a_connection_cut_in_the_middle_of_an_object(tmp_path: Path) -> None:
    ds = source(rows=600, columns=600)
    item = encode(ds)[1]
    path = tmp_path / "big.dcm"
    path.write_bytes(item.data)
    with scripted_pacs() as pacs, cutting_proxy(pacs.port, after=300_000) as port:
        (receipt,) = sent([path], to(port))
    assert receipt.code == "CONNECTION_LOST"
    assert receipt.is_retryable
    assert pacs.instances == []


class cutting_proxy:  # used as a context manager
    """Forwards to a port and closes both sides after so many bytes from the client."""

    def __init__(self, port: int, *, after: int) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._target, self._after = port, after
        self._threads = [threading.Thread(target=self._run)]

    def __enter__(self) -> int:
        self._threads[0].start()
        return int(self._server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _run(self) -> None:
        client, _ = self._server.accept()
        peer = socket.create_connection(("127.0.0.1", self._target))
        back = threading.Thread(target=self._copy, args=(peer, client, None))
        self._threads.append(back)
        back.start()
        self._copy(client, peer, self._after)
        for side in (client, peer):
            side.shutdown(socket.SHUT_RDWR)
        back.join()
        client.close()
        peer.close()

    @staticmethod
    def _copy(from_: socket.socket, to_: socket.socket, limit: int | None) -> None:
        passed = 0
        while limit is None or passed < limit:
            try:
                data = from_.recv(65536)
                to_.sendall(data)
            except OSError:
                return
            if not data:
                return
            passed += len(data)


def test_folders_are_walked_and_what_is_no_dicom_is_left_out(
    results: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(results[0], tmp_path / "deep" / "er" / "IM0001")
    shutil.copy(results[1], tmp_path / "deep" / "capture.dcm")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "readme.txt").write_text("not an image\n" * 40)
    (tmp_path / "short.dcm").write_bytes(results[0].read_bytes()[:140])
    directory = read(encode(source())[0])
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.save_as(tmp_path / "DICOMDIR")
    calls: list[tuple[int, int]] = []
    with scripted_pacs() as pacs:
        receipts = send(
            [tmp_path, tmp_path / "missing.dcm"],
            to(pacs.port),
            calling_ae_title="PACSIGHT",
            on_progress=lambda done, total: calls.append((done, total)),
        )
    by_name = {receipt.path.name: receipt.code for receipt in receipts if receipt.path}
    assert by_name == {
        "IM0001": "STORED",
        "capture.dcm": "STORED",
        "empty.dcm": "NOT_DICOM",
        "readme.txt": "NOT_DICOM",
        "short.dcm": "NOT_DICOM",
        "DICOMDIR": "NOT_STORABLE",
        "missing.dcm": "FILE_UNREADABLE",
    }
    skipped = [receipt for receipt in receipts if receipt.outcome is Outcome.SKIPPED]
    assert len(skipped) == 5
    assert not any(receipt.is_retryable for receipt in skipped)
    assert calls == [(done, 7) for done in range(1, 8)]


def test_a_transfer_syntax_that_the_peer_does_not_take_is_never_converted(
    results: list[Path], tmp_path: Path
) -> None:
    ds = pydicom.dcmread(results[1])
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "compressed.dcm")
    with scripted_pacs() as pacs:  # takes uncompressed objects only
        compressed, plain = sent([tmp_path / "compressed.dcm", results[0]], to(pacs.port))
    assert compressed.code == "CONTEXT_NOT_ACCEPTED"
    assert plain.is_delivered


def test_more_contexts_than_an_association_holds_take_several(
    results: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MAX_CONTEXTS", 1)
    with scripted_pacs() as pacs:
        receipts = sent([*results, *results], to(pacs.port))
    assert codes(receipts) == ["STORED"] * 4
    assert pacs.contexts == 1


def test_echo_says_whether_a_peer_answers() -> None:
    with scripted_pacs() as pacs:
        assert echo(to(pacs.port), calling_ae_title="PACSIGHT").is_delivered
    assert echo(to(free_port()), calling_ae_title="PACSIGHT").code == "DESTINATION_UNREACHABLE"
    with scripted_pacs(sop_classes=[SecondaryCaptureImageStorage]) as pacs:
        receipt = echo(to(pacs.port), calling_ae_title="PACSIGHT")
    assert receipt.code == "CONTEXT_NOT_ACCEPTED"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.peer
def test_dcmtk_stores_exactly_the_bytes_that_were_sent(
    results: list[Path], tmp_path: Path, dcmtk: Callable[..., str]
) -> None:
    port = free_port()
    received = tmp_path / "received"
    received.mkdir()
    server = Process(
        [program("storescp"), "+B", "-aet", "STORESCP", "-od", received, str(port)],
        tmp_path / "log",
    )
    destination = to(port, ae_title="STORESCP")
    server.start(lambda: echo(destination, calling_ae_title="PACSIGHT").is_delivered)
    try:
        receipts = sent(results, destination)
    finally:
        server.stop()
    assert codes(receipts) == ["STORED"] * 2
    for path in results:
        (stored,) = (item for item in received.iterdir() if path.stem in item.name)
        mine, theirs = pydicom.dcmread(path), pydicom.dcmread(stored)
        assert mine == theirs
        tail = path.stat().st_size // 2
        assert path.read_bytes()[-tail:] == stored.read_bytes()[-tail:]


@pytest.mark.peer
def test_a_real_pacs_lists_and_shows_the_results(orthanc: Orthanc, results: list[Path]) -> None:
    destination = to(orthanc.dicom_port, ae_title=orthanc.ae_title)
    assert codes(sent(results, destination)) == ["STORED"] * 2
    assert codes(sent(results, destination)) == ["STORED"] * 2  # a retry changes nothing
    instances = orthanc.instances()
    assert {item["MainDicomTags"]["SOPInstanceUID"] for item in instances} == {
        path.stem for path in results
    }
    study = pydicom.dcmread(results[0]).StudyInstanceUID
    series = orthanc.dicomweb(f"studies/{study}/series")
    assert {item["00080060"]["Value"][0] for item in series} == {"SR", "OT"}
    capture = next(
        item for item in instances if item["MainDicomTags"]["SOPInstanceUID"] == results[1].stem
    )
    preview = orthanc.http.get(f"/instances/{capture['ID']}/preview")
    assert preview.is_success
    assert preview.content.startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def compressed(
    results: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """The capture in each compressed transfer syntax, and uncompressed."""
    folder = tmp_path_factory.mktemp("compressed")
    (item,) = (item for item in encode(source()) if item.kind == "sc")
    files = {}
    for name in COMPRESSIONS:
        encoded = encode_as(item, TRANSFER_SYNTAXES[name])
        assert encoded is not None
        files[name] = folder / f"{name}.dcm", results[1]
        files[name][0].write_bytes(encoded.data)
    return files


COMPRESSIONS = ["rle", "jpeg-ls", "htj2k"]


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_a_peer_does_not_decompress_goes_uncompressed(
    compressed: dict[str, tuple[Path, Path]], name: str
) -> None:
    encoded, plain = compressed[name]
    with scripted_pacs() as pacs:
        (receipt,) = send(
            [encoded], to(pacs.port), calling_ae_title="PACSIGHT", uncompressed={encoded: plain}
        )
        (alone,) = sent([encoded], to(pacs.port))
    assert receipt.is_delivered
    assert receipt.path == plain
    assert plain.read_bytes().endswith(pacs.data_sets[0])
    assert pacs.contexts == 2
    assert alone.code == "CONTEXT_NOT_ACCEPTED"


@pytest.mark.peer
def test_orthanc_gets_the_compressed_bytes_that_it_takes(
    compressed: dict[str, tuple[Path, Path]], orthanc: Orthanc
) -> None:
    for name in COMPRESSIONS:
        encoded, plain = compressed[name]
        (receipt,) = send(
            [encoded],
            to(orthanc.dicom_port, ae_title="ORTHANC"),
            calling_ae_title="PACSIGHT",
            uncompressed={encoded: plain},
        )
        assert receipt.is_delivered
        took = receipt.path
        assert took == (plain if name == "htj2k" else encoded)  # 1.10 knows no HTJ2K


@pytest.mark.peer
@pytest.mark.parametrize("name", ["rle", "jpeg-ls"])
def test_dcmtk_decompresses_to_the_same_pixels(
    compressed: dict[str, tuple[Path, Path]], name: str, tmp_path: Path
) -> None:
    encoded, plain = compressed[name]
    command = {"rle": "dcmdrle", "jpeg-ls": "dcmdjpls"}[name]
    subprocess.run([program(command), encoded, tmp_path / "plain.dcm"], check=True)
    again = pydicom.dcmread(tmp_path / "plain.dcm")
    assert again.PixelData == pydicom.dcmread(plain).PixelData


def test_htj2k_reads_back_the_same_colours(compressed: dict[str, tuple[Path, Path]]) -> None:
    encoded, plain = (pydicom.dcmread(path) for path in compressed["htj2k"])
    assert encoded.PhotometricInterpretation == "YBR_RCT"
    assert (encoded.pixel_array == plain.pixel_array).all()


def test_objects_without_bytes_of_pixels_have_no_compressed_form() -> None:
    report, *_ = encode(source())
    assert encode_as(report, RLELossless) is None
