"""Delivery through TLS: to dcmtk's receiver, to our own listener, and to those who fail."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_out.delivery import echo, send
from dicom_out.destination import DeliveryReceipt, Destination
from scp.config import ListenerConfig
from scp.listener import Listener
from scp.tls import ClientTls
from tests.dicom_out.factories import encode, source
from tests.peers.certificates import Authority
from tests.peers.process import Process, free_port, program

pytestmark = pytest.mark.peer
CALLING = "PACSIGHT"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


def _to(port: int, tls: ClientTls | None, **more: Any) -> Destination:
    return Destination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=5, tls=tls, **more
    )


def _trusting(authority: Authority, shown_by: Authority | None = None, **more: Any) -> ClientTls:
    certificate, key = shown_by.issue("pacsight.hospital") if shown_by else (None, None)
    return ClientTls(authorities=authority.file, certificate=certificate, key=key, **more)


@pytest.fixture
def start_storescp(authority: Authority, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """``start_storescp("+tls", …)`` returns its port; what it stores lies in tmp_path/stored."""
    started: list[Process] = []

    def start(name: str = "127.0.0.1", *more: str) -> int:
        certificate, key = authority.issue(name)
        folder = tmp_path / "stored"
        folder.mkdir(exist_ok=True)
        port = free_port()
        command = [program("storescp"), "-aet", "PACS", "-od", folder, "+xa", *more]
        command += ["+tls", key, certificate, "+cf", authority.file, str(port)]
        process = Process(command, tmp_path / "storescp.log")
        started.append(process)

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        process.start(listens)
        return port

    yield start
    for process in started:
        process.stop()


def test_objects_arrive_whole_through_mutual_tls(
    start_storescp: Callable[..., int], authority: Authority, tmp_path: Path
) -> None:
    port = start_storescp()
    files = []
    for item in encode(source())[:2]:
        files.append(tmp_path / f"{item.sop_instance_uid}.dcm")
        files[-1].write_bytes(item.data)
    receipts = send(files, _to(port, _trusting(authority, authority)), calling_ae_title=CALLING)
    assert [receipt.code for receipt in receipts] == ["STORED", "STORED"]
    assert len(list((tmp_path / "stored").iterdir())) == 2


def _echo(port: int, tls: ClientTls | None, **more: Any) -> DeliveryReceipt:
    return echo(_to(port, tls, **more), calling_ae_title=CALLING)


def test_each_failure_of_tls_is_named(
    start_storescp: Callable[..., int], authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    port = start_storescp()
    ours = _trusting(authority, authority)
    cases = {
        "fine": (ours, "ANSWERS", ""),
        "we don't trust the peer": (_trusting(stranger, authority), "TLS_FAILED", "certificate"),
        "the peer doesn't trust us": (_trusting(authority, stranger), "TLS_FAILED", "unknown ca"),
        "we show no certificate": (_trusting(authority), "TLS_FAILED", "("),
        "the certificate is another's": (
            _trusting(authority, authority, name="pacs.hospital"),
            "TLS_FAILED",
            "pacs.hospital",
        ),
        "file missing": (
            ours.model_copy(update={"key": tmp_path / "missing.pem"}),
            "TLS_FAILED",
            "missing.pem",
        ),
    }
    for name, (tls, code, words) in cases.items():
        receipt = _echo(port, tls)
        assert receipt.code == code, (name, receipt)
        assert words in receipt.message, (name, receipt)
        assert receipt.is_delivered or receipt.is_retryable
    assert _echo(port, None).code == "ASSOCIATION_ABORTED"


def test_name_of_the_certificate_counts_unless_switched_off(
    start_storescp: Callable[..., int], authority: Authority
) -> None:
    port = start_storescp("modality-7.hospital")
    receipt = _echo(port, _trusting(authority, authority))
    assert (receipt.code, "127.0.0.1" in receipt.message) == ("TLS_FAILED", True)
    for more in ({"name": "modality-7.hospital"}, {"checks_name": False}):
        assert _echo(port, _trusting(authority, authority, **more)).code == "ANSWERS"


def test_peer_without_tls_and_peer_that_says_nothing(authority: Authority) -> None:
    ours = _trusting(authority, authority)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        receipt = echo(
            Destination(
                name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=0.5, tls=ours
            ),
            calling_ae_title=CALLING,
        )
    assert receipt.code == "DESTINATION_UNREACHABLE"
    with socket.create_server(("127.0.0.1", 0)) as plain:
        answering = threading.Thread(target=_abort_once, args=(plain,))
        answering.start()
        receipt = _echo(plain.getsockname()[1], ours)
        answering.join()
    assert receipt.code == "TLS_FAILED"


def _abort_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0)))  # A-ABORT, PS3.8 9.3.8


def test_user_is_introduced_to_our_own_listener(
    authority: Authority, sqlite_engine: Any, tmp_path: Path
) -> None:
    certificate, key = authority.issue()
    config = ListenerConfig.model_validate(
        {
            "host": "127.0.0.1",
            "port": 0,
            "ae_title": "PACS",
            "tls": {"certificate": certificate, "key": key, "authorities": authority.file},
            "users": [{"name": "pacsight", "password": "right"}],
        }
    )
    ours = _trusting(authority, authority)
    with Listener(config, tmp_path / "spool", sqlite_engine, "test") as listener:
        for password, code in (("right", "ANSWERS"), ("wrong", "ASSOCIATION_REJECTED")):
            user = {"name": "pacsight", "password": password}
            assert _echo(listener.port, ours, user=user).code == code
        assert _echo(listener.port, ours).code == "ASSOCIATION_REJECTED"


def test_password_without_tls_is_refused() -> None:
    with pytest.raises(ValidationError, match="user needs tls"):
        _to(104, None, user={"name": "pacsight", "password": "right"})
