"""A sender made of bytes: it says what no library would."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"

COMMAND, DATA, LAST = 1, 0, 2
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))
RELEASE = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ASSOCIATE_AC, P_DATA, RELEASE_RP, A_ABORT = 2, 4, 6, 7


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def associate_rq(
    contexts: list[tuple[str, list[str]]], called: str = "PACSIGHT", calling: str = "RAW"
) -> bytes:
    """Return an A-ASSOCIATE-RQ; context IDs are 1, 3, 5, …"""
    proposals = b"".join(
        _item(
            0x20,
            bytes((2 * n + 1, 0, 0, 0))
            + _item(0x30, abstract.encode())
            + b"".join(_item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for n, (abstract, syntaxes) in enumerate(contexts)
    )
    body = (
        struct.pack(">HH", 1, 0)
        + called.encode().ljust(16)
        + calling.encode().ljust(16)
        + bytes(32)
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + proposals
        + _item(0x50, _item(0x51, struct.pack(">I", 0)) + _item(0x52, b"1.2.3"))
    )
    return struct.pack(">BBI", 1, 0, len(body)) + body


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def command(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body))) + body


def store_rq(
    instance_uid: str = "1.2.3.4",
    class_uid: str = CT_IMAGE_STORAGE,
    data_set_type: int = 0,
    message_id: int = 5,
) -> bytes:
    return command(
        element(2, class_uid.encode()),
        us(0x100, 1),
        us(0x110, message_id),
        us(0x700, 0),
        us(0x800, data_set_type),
        element(0x1000, instance_uid.encode()),
    )


def echo_rq(data_set_type: int = 0x0101) -> bytes:
    return command(
        element(2, VERIFICATION.encode()), us(0x100, 0x30), us(0x110, 9), us(0x800, data_set_type)
    )


def pdv(control: int, data: bytes, context: int = 1) -> bytes:
    return struct.pack(">IBB", len(data) + 2, context, control) + data


def pdu(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BBI", 4, 0, len(body)) + body


def store_message(data: bytes, *, piece: int = 1 << 14, context: int = 1, **request: str) -> bytes:
    """Return a whole C-STORE-RQ with its data set."""
    parts = [data[i : i + piece] for i in range(0, len(data), piece)] or [b""]
    return pdu(pdv(COMMAND | LAST, store_rq(**request), context)) + b"".join(
        pdu(pdv(DATA | (LAST if n == len(parts) - 1 else 0), part, context))
        for n, part in enumerate(parts)
    )


class RawPeer:
    """A connection; as a context manager it closes at the end."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)

    def associate(self, *contexts: tuple[str, list[str]], **titles: str) -> Self:
        """Negotiate; by default CT Image Storage and Verification as contexts 1 and 3."""
        chosen = list(contexts) or [
            (CT_IMAGE_STORAGE, [EXPLICIT_LITTLE]),
            (VERIFICATION, ["1.2.840.10008.1.2"]),
        ]
        self.send(associate_rq(chosen, **titles))
        answer = self.read_pdu()
        assert answer is not None
        assert answer[0] == ASSOCIATE_AC, answer
        return self

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_pdu(self) -> tuple[int, bytes] | None:
        """Return type and body; None when the peer closed."""
        header = self._read(6)
        if header is None:
            return None
        body = self._read(int.from_bytes(header[2:], "big"))
        return None if body is None else (header[0], body)

    def read_status(self) -> int:
        return self.read_response()[0]

    def read_response(self) -> tuple[int, dict[int, bytes]]:
        """Return status and elements of the next DIMSE response."""
        answer = self.read_pdu()
        assert answer is not None, "closed"
        assert answer[0] == P_DATA, answer
        found, position, body = {}, 0, answer[1][6:]
        while position < len(body):
            _, number, length = struct.unpack_from("<HHI", body, position)
            found[number] = body[position + 8 : position + 8 + length]
            position += 8 + length
        return int.from_bytes(found[0x900], "little"), found

    def _read(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            data += piece
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
