"""The listener behind TLS: dcmtk and bare sockets, with and without the right certificate."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification

from scp.config import ListenerConfig
from scp.errors import TlsError
from scp.listener import Listener
from scp.server import MAX_STRANGERS
from scp.tls import CIPHERS, ServerTls
from tests.peers.certificates import Authority
from tests.peers.dcmtk import dcmtk
from tests.peers.process import wait_until
from tests.scp.conftest import Inbox
from tests.scp.raw_peer import (
    COMMAND,
    CT_IMAGE_STORAGE,
    EXPLICIT_LITTLE,
    LAST,
    VERIFICATION,
    RawPeer,
    associate_rq,
    echo_rq,
    pdu,
    pdv,
    store_message,
)
from tests.scp.received import data_set_bytes, radiograph

BODY = os.urandom(1 << 20)
REQUEST = associate_rq(
    [(CT_IMAGE_STORAGE, [EXPLICIT_LITTLE]), (VERIFICATION, ["1.2.840.10008.1.2"])]
)


@dataclass(frozen=True)
class Site:
    """One hospital: its authority, what the listener is told, and what a sender shows."""

    authority: Path
    tls: ServerTls
    certificate: Path
    key: Path

    def context(self, *, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        if with_certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return _site(tmp_path_factory.mktemp("site") / "authority")


@pytest.fixture(scope="module")
def other_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return _site(tmp_path_factory.mktemp("other") / "authority")


def _site(folder: Path) -> Site:
    authority = Authority(folder)
    certificate, key = authority.issue()
    tls = ServerTls(certificate=certificate, key=key, authorities=authority.file)
    return Site(authority.file, tls, *authority.issue("ct01.hospital"))


class TlsPeer(RawPeer):
    """A sender made of bytes, through TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(port)
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")


def _echo(port: int, *options: str | Path) -> str:
    return dcmtk("echoscu", "-v", *options, "-aec", "PACSIGHT", "127.0.0.1", str(port), check=False)


def _certified(site: Site) -> list[str | Path]:
    return ["+tls", site.key, site.certificate, "+cf", site.authority]


SUCCESS = "Received Echo Response (Success)"


@pytest.mark.peer
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_sender_with_a_certificate_of_the_authority_is_served(
    start_listener: Callable[..., Listener], site: Site, profile: str
) -> None:
    listener = start_listener(tls=site.tls)
    assert SUCCESS in _echo(listener.port, *_certified(site), profile)


@pytest.mark.peer
def test_objects_come_through_tls_as_they_were_sent(
    start_listener: Callable[..., Listener], inbox: Inbox, site: Site, tmp_path: Path
) -> None:
    listener = start_listener(tls=site.tls)
    sent = []
    for number in range(3):
        ds = radiograph(Rows=512, Columns=512, PixelData=os.urandom(1 << 18))
        sent.append(data_set_bytes(ds))
        ds.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    dcmtk(
        *("storescu", *_certified(site), "-aec", "PACSIGHT", "127.0.0.1", str(listener.port)),
        *sorted(tmp_path.glob("*.dcm")),
    )
    assert [inbox.data_set(row) for row in inbox.rows()] == sent
    wait_until(lambda: inbox.associations()[0].outcome == "released", "the end")


@pytest.mark.peer
def test_who_has_not_the_right_certificate_gets_nothing(
    start_listener: Callable[..., Listener], inbox: Inbox, site: Site, other_site: Site
) -> None:
    listener = start_listener(tls=site.tls)
    wrong = ["+tls", other_site.key, other_site.certificate, "+cf", site.authority]
    assert SUCCESS not in _echo(listener.port, *wrong)
    assert SUCCESS not in _echo(listener.port, "+tla", "+cf", site.authority)
    assert SUCCESS not in _echo(listener.port)
    mistrusting = ["+tls", site.key, site.certificate, "+cf", other_site.authority]
    assert SUCCESS not in _echo(listener.port, *mistrusting)
    assert SUCCESS in _echo(listener.port, *_certified(site))
    assert inbox.rows() == []


def test_old_protocols_and_weak_ciphers_are_not_spoken(
    start_listener: Callable[..., Listener], site: Site
) -> None:
    listener = start_listener(tls=site.tls)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.context()
        context.minimum_version = context.maximum_version = version
        with TlsPeer(listener.port, context).associate() as peer:
            cipher = peer.socket.cipher()  # type: ignore[attr-defined]  # of an SSLSocket
            assert "GCM" in cipher[0]
    context = site.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESCCM:ECDHE+SHA:AES128-GCM-SHA256")  # no GCM, or no ECDHE
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake failure"):
        TlsPeer(listener.port, context)
    own = site.tls.context()
    assert own.minimum_version is ssl.TLSVersion.TLSv1_2
    below_13 = {one["name"] for one in own.get_ciphers() if one["protocol"] != "TLSv1.3"}
    assert below_13 == set(CIPHERS.split(":"))


def test_client_that_stalls_in_the_handshake_holds_up_nobody(
    start_listener: Callable[..., Listener], inbox: Inbox, site: Site
) -> None:
    listener = start_listener(tls=site.tls, artim_timeout_s=1.5, stall_timeout_s=30.0)
    hello = _client_hello(site)
    start = time.monotonic()
    with ExitStack() as stack:
        stalled = []
        for part in (b"", hello[:1], hello[: len(hello) // 2], hello, hello + b"\x16"):
            peer = stack.enter_context(RawPeer(listener.port))
            peer.send(part)
            stalled.append(peer)
        with TlsPeer(listener.port, site.context()).associate() as peer:
            peer.send(store_message(BODY))
            assert peer.read_status() == 0
        for peer in stalled:  # ARTIM ends them, not the longer patience with a PDU
            while peer.socket.recv(1 << 16):
                pass
    assert time.monotonic() - start < 15
    assert [inbox.data_set(row) for row in inbox.rows()] == [BODY]


def _client_hello(site: Site) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    stream = site.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        stream.do_handshake()
    return outgoing.read()


def test_messages_cut_into_records_and_records_into_pieces(
    start_listener: Callable[..., Listener], inbox: Inbox, site: Site
) -> None:
    """Records end inside PDUs and TCP segments inside records; several PDUs share a record."""
    listener = start_listener(tls=site.tls)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    stream = site.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with RawPeer(listener.port) as plain:

        def flush(piece: int) -> None:
            data = outgoing.read()
            for start in range(0, len(data), piece):
                plain.send(data[start : start + piece])
                time.sleep(0.002)

        while True:
            try:
                stream.do_handshake()
                break
            except ssl.SSLWantReadError:
                flush(100)
                incoming.write(plain.socket.recv(1 << 16))
        flush(100)
        request = REQUEST
        for start in range(0, len(request), 50):
            stream.write(request[start : start + 50])
        flush(31)
        _read(stream, incoming, plain, 6)
        echo = pdu(pdv(COMMAND | LAST, echo_rq(), 3))
        stream.write(store_message(BODY[:40_000], piece=9000) + echo + echo)
        flush(4000)
        answers = _read(stream, incoming, plain, 3 * 80)
    assert answers.count(b"\x04\x00\x00\x00") >= 3  # P-DATA-TF
    assert [inbox.data_set(row) for row in inbox.rows()] == [BODY[:40_000]]


def _read(stream: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: RawPeer, least: int) -> bytes:
    data = b""
    while len(data) < least:
        try:
            data += stream.read(1 << 16)
        except ssl.SSLWantReadError:
            incoming.write(plain.socket.recv(1 << 16))
    return data


def test_plain_client_is_cut_off_and_the_log_says_why(
    start_listener: Callable[..., Listener], site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    listener = start_listener(tls=site.tls)
    with caplog.at_level(logging.WARNING, "scp"), RawPeer(listener.port) as peer:
        peer.send(REQUEST)
        with pytest.raises((AssertionError, ConnectionError)):
            peer.read_response()
    assert "TLS with 127.0.0.1 failed" in caplog.text


# -- users


def _call(port: int, site: Site, identity: UserIdentityNegotiation | None) -> tuple[bool, bool]:
    """Return whether the association stands, and whether the identity was answered."""
    entity = AE("CT01")
    entity.add_requested_context(Verification)
    association = entity.associate(
        *("127.0.0.1", port),
        ae_title="PACSIGHT",
        ext_neg=[identity] if identity else [],
        tls_args=(site.context(), "127.0.0.1"),
    )
    stands = association.is_established
    answered = stands and association.acceptor.user_identity is not None
    if stands:
        assert association.send_c_echo().Status == 0
        association.release()
        association.join(2)
    return stands, answered


def _identity(name: str, passcode: str, kind: int = 2) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = name.encode()
    if kind == 2:
        item.secondary_field = passcode.encode()
    item.positive_response_requested = True
    return item


def test_with_users_an_association_needs_name_and_password(
    start_listener: Callable[..., Listener], site: Site, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pass wörd\n")
    listener = start_listener(tls=site.tls, users=[{"name": "ct01", "password": f"file:{secret}"}])
    cases = {
        "right": (_identity("ct01", "pass wörd"), (True, True)),
        "wrong password": (_identity("ct01", "other"), (False, False)),
        "unknown name": (_identity("ct02", "pass wörd"), (False, False)),
        "unknown name, no password": (_identity("ct02", " "), (False, False)),
        "name only": (_identity("ct01", "", kind=1), (False, False)),
        "nothing": (None, (False, False)),
    }
    assert {name: _call(listener.port, site, item) for name, (item, _) in cases.items()} == {
        name: expected for name, (_, expected) in cases.items()
    }


def test_without_users_an_identity_is_neither_needed_nor_answered(
    start_listener: Callable[..., Listener], site: Site
) -> None:
    listener = start_listener(tls=site.tls)
    assert _call(listener.port, site, _identity("anybody", "anything")) == (True, False)


# -- settings


def test_users_without_tls_are_refused() -> None:
    with pytest.raises(ValidationError, match="users need tls") as caught:
        ListenerConfig.model_validate({"users": [{"name": "ct01", "password": "s3cret"}]})
    assert "s3cret" not in str(caught.value.errors(include_input=False))


def test_files_that_cannot_be_used_are_named(
    start_listener: Callable[..., Listener], site: Site, other_site: Site, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    encrypted = tmp_path / "encrypted.pem"
    dcmtk("openssl", "ec", "-in", site.key, "-aes128", "-passout", "pass:x", "-out", encrypted)
    for change in (
        {"certificate": tmp_path / "missing.pem"},
        {"authorities": tmp_path / "missing.pem"},
        {"authorities": garbage},
        {"key": garbage},
        {"key": other_site.key},
        {"key": encrypted},
    ):
        with pytest.raises(TlsError, match=str(next(iter(change.values())))):
            start_listener(tls=site.tls.model_copy(update=change))


# -- strangers


def test_strangers_hold_no_place_of_senders(start_listener: Callable[..., Listener]) -> None:
    """Connections from where nobody may associate are few at a time; senders are still served."""
    listener = start_listener(allowed_peers=[{"address": "127.0.0.1"}], max_associations=2)
    with ExitStack() as stack:
        strangers = []
        for _ in range(3 * MAX_STRANGERS):
            stranger = stack.enter_context(socket.socket())
            stranger.bind(("127.0.0.2", 0))
            stranger.settimeout(10)
            stranger.connect(("127.0.0.1", listener.port))
            strangers.append(stranger)
        with RawPeer(listener.port).associate() as peer:
            peer.send(pdu(pdv(COMMAND | LAST, echo_rq(), 3)))
            assert peer.read_status() == 0
        closed = [one for one in strangers if _is_closed(one)]
        assert len(closed) == 2 * MAX_STRANGERS


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
