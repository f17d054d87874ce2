"""Malformed DICOM: real requests and data sets, broken in ways that know their grammar.

Everything comes from one ``random.Random``, so that a seed repeats a run.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from pydicom import Dataset

from tests.scp.raw_peer import (
    ABORT,
    COMMAND,
    CT_IMAGE_STORAGE,
    DATA,
    EXPLICIT_LITTLE,
    LAST,
    RELEASE,
    VERIFICATION,
    associate_rq,
    command,
    element,
    pdu,
    pdv,
    us,
)
from tests.scp.received import data_set_bytes, radiograph

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
MPPS = "1.2.840.10008.3.1.2.3.3"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
CONTEXTS = [
    (CT_IMAGE_STORAGE, [EXPLICIT_LITTLE]),
    (VERIFICATION, [IMPLICIT_LITTLE]),
    (MPPS, [EXPLICIT_LITTLE]),
    (CT_IMAGE_STORAGE, [IMPLICIT_LITTLE]),
    (CT_IMAGE_STORAGE, [DEFLATED]),
    (STORAGE_COMMITMENT, [EXPLICIT_LITTLE]),
]
STORE_CONTEXTS = (1, 7, 9)
INSTANCE, STUDY = b"1.2.3.1" + b"0" * 18, b"1.2.4.1" + b"0" * 18
"""In the data set; each C-STORE puts its own there."""
INTERESTING = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
UIDS = (
    b"", b"0", b"1.2", b"1." + b"2" * 62, b"1." + b"2" * 70, b"../../etc/passwd", b"1.2/../3",
    b"1.2\\3", b"1.2.\0\0", b"\xff" * 20, b"1.2.840.10008.1.1", b"file:///dev/zero", b" 1.2.3 ",
)  # fmt: skip
COMMANDS = (0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150,
            0x0FFF, 0x8001, 0x8030, 0x7777)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """What one connection sends: at once, or after an association stands."""

    data: bytes
    associates: bool


class Mutator:
    """Makes attacks, one after another, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._makers: list[tuple[int, Callable[[], Attack]]] = [
            (4, self._garbage),
            (14, self._broken_request),
            (24, self._broken_bytes_of_a_message),
            (22, self._broken_command),
            (14, self._broken_fragments),
            (18, self._broken_data_set),
            (4, self._wrong_order),
        ]

    def attack(self) -> Attack:
        weights, makers = zip(*self._makers, strict=True)
        return self._random.choices(makers, weights)[0]()

    # -- kinds of attacks

    def _garbage(self) -> Attack:
        data = self._random.randbytes(self._random.choice((1, 5, 6, 7, 60, 3000)))
        if self._random.random() < 0.5:  # with a PDU's head
            kind = self._random.randrange(256)
            data = struct.pack(">BBI", kind, 0, self._number(len(data))) + data
        return Attack(data, self._random.random() < 0.5)

    def _broken_request(self) -> Attack:
        contexts = [
            (self._uid_text(abstract), [self._uid_text(one) for one in syntaxes])
            for abstract, syntaxes in CONTEXTS
        ] * self._random.choice((1, 1, 1, 3, 20))
        titles = ["PACSIGHT", "RAW", "", "A\\B", "\x01\x02", "X" * 16]
        request = associate_rq(
            contexts[:127],
            called=self._random.choice(titles),
            calling=self._random.choice(titles),
        )
        if self._random.random() < 0.9:
            request = self._bytes(request)
        return Attack(request, False)

    def _broken_bytes_of_a_message(self) -> Attack:
        return Attack(self._bytes(self._message(*self._request())), True)

    def _broken_command(self) -> Attack:
        """A command set whose elements are missing, doubled, in disorder, or hold the wrong."""
        context, elements, data = self._request()
        for _ in range(self._random.choice((1, 1, 2, 4))):
            at = self._random.randrange(len(elements))
            match self._random.randrange(6):
                case 0:
                    del elements[at]
                case 1:
                    elements.insert(at, elements[at])
                case 2:
                    self._random.shuffle(elements)
                case 3:
                    elements[at] = element(
                        self._random.choice((2, 3, 0x100, 0x110, 0x700, 0x800, 0x1000, 0x1001)),
                        self._random.choice(UIDS),
                    )
                case 4:
                    elements[at] = us(0x100, self._random.choice(COMMANDS))
                case 5:
                    elements[at] = us(
                        self._random.choice((0x110, 0x120, 0x700, 0x800, 0x900, 0x1008)),
                        self._random.choice(INTERESTING) & 0xFFFF,
                    )
            if not elements:
                break
        return Attack(self._message(context, elements, data), True)

    def _broken_fragments(self) -> Attack:
        """Right bytes in PDVs of wrong contexts, flags, lengths or order."""
        context, elements, data = self._request()
        pieces = [(COMMAND, piece) for piece in self._cut(command(*elements))]
        pieces += [(DATA, piece) for piece in self._cut(data or b"")]
        if self._random.random() < 0.3:
            self._random.shuffle(pieces)
        stream = b""
        for number, (control, piece) in enumerate(pieces):
            is_last = number + 1 == len(pieces) or pieces[number + 1][0] != control
            flags = control | (LAST if is_last else 0)
            if self._random.random() < 0.15:
                flags = self._random.randrange(256)
            there = self._random.randrange(256) if self._random.random() < 0.1 else context
            one = pdv(flags, piece, there)
            if self._random.random() < 0.15:
                one = struct.pack(">I", self._number(len(piece) + 2)) + one[4:]
            stream += pdu(one, *([b""] if self._random.random() < 0.9 else [one]))
        return Attack(stream, True)

    def _broken_data_set(self) -> Attack:
        """A C-STORE as it should be, of a data set that is not: stored, and met by the indexer."""
        context, elements, data = self._store()
        if self._random.random() < 0.3:
            data = self._nested()
        for _ in range(self._random.choice((1, 1, 2, 8))):
            data = self._bytes(data)
        return Attack(self._message(context, elements, data), True)

    def _wrong_order(self) -> Attack:
        message = self._message(*self._request())
        cut = self._random.randrange(len(message))
        between = self._random.choice((ABORT, RELEASE, associate_rq(CONTEXTS), b"\2\0\0\0\0\0"))
        if self._random.random() < 0.5:
            return Attack(message[:cut] + between + message[cut:], True)
        return Attack(between + message, True)

    # -- what is broken: real requests

    def _request(self) -> tuple[int, list[bytes], bytes | None]:
        """Return context, elements of the command set, and data set of a request."""
        kind = self._random.randrange(6)
        if kind <= 1:
            return self._store()
        if kind == 2:
            elements = [element(2, VERIFICATION.encode()), us(0x100, 0x30), us(0x110, 9)]
            return 3, [*elements, us(0x800, 0x101)], None
        if kind == 3:  # N-ACTION-RQ: please commit (PS3.4 section J.3.2)
            elements = [
                *(element(3, STORAGE_COMMITMENT.encode()), us(0x100, 0x130), us(0x110, 11)),
                *(us(0x800, 0), element(0x1001, b"1.2.840.10008.1.20.1.1"), us(0x1008, 1)),
            ]
            return 11, elements, _commitment()
        if kind == 4:  # N-EVENT-REPORT-RQ: committed (PS3.4 section J.3.3)
            elements = [
                *(element(2, STORAGE_COMMITMENT.encode()), us(0x100, 0x100), us(0x110, 13)),
                *(us(0x800, 0), element(0x1000, b"1.2.840.10008.1.20.1.1"), us(0x1002, 1)),
            ]
            return 11, elements, _commitment()
        field = self._random.choice((0x140, 0x120))  # N-CREATE-RQ, N-SET-RQ
        elements = [element(2, MPPS.encode()), us(0x100, field), us(0x110, 12), us(0x800, 0)]
        return 5, [*elements, element(0x1000, b"1.2.3.4")], _data_set(1)[:300]

    def _store(self) -> tuple[int, list[bytes], bytes]:
        context = self._random.choice(STORE_CONTEXTS)
        instance = b"1.2.3.1%018d" % self._random.randrange(10**18)
        study = b"1.2.4.1%018d" % self._random.randrange(200)
        elements = [
            *(element(2, CT_IMAGE_STORAGE.encode()), us(0x100, 1), us(0x110, 5)),
            *(us(0x700, 0), us(0x800, 0), element(0x1000, instance)),
        ]
        data = _data_set(context).replace(INSTANCE, instance).replace(STUDY, study)
        return context, elements, data

    def _message(self, context: int, elements: list[bytes], data: bytes | None) -> bytes:
        stream = pdu(pdv(COMMAND | LAST, command(*elements), context))
        return stream if data is None else stream + pdu(pdv(DATA | LAST, data, context))

    def _nested(self) -> bytes:
        """Sequences inside each other, or with many items; the ends may be missing."""
        depth = self._random.choice((1, 3, 40, 400))
        begin = struct.pack("<HH2sHL", 8, 0x1111, b"SQ", 0, 0xFFFFFFFF)
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        ends = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        if self._random.random() < 0.5:
            return (begin + item) * depth + ends * self._random.choice((depth, depth // 2, 0))
        return begin + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * depth * 10 + ends[8:]

    # -- how it is broken

    def _bytes(self, data: bytes) -> bytes:
        """Change a few bytes, or cut, double, move or insert some."""
        changed = bytearray(data)
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            at = self._random.randrange(len(changed) + 1)
            size = self._random.choice((1, 2, 4, 8, 40))
            match self._random.randrange(7):
                case 0 if at < len(changed):
                    changed[at] ^= 1 << self._random.randrange(8)
                case 1:
                    changed[at : at + size] = self._random.randbytes(size)
                case 2:
                    del changed[at : at + size]
                case 3:
                    changed[at:at] = self._random.randbytes(size)
                case 4:
                    changed[at:at] = changed[at : at + size]
                case 5:
                    del changed[at:]
                case _:
                    form = self._random.choice((">I", "<I", ">H", "<H"))
                    width = struct.calcsize(form)
                    number = self._random.choice(INTERESTING) & (256**width - 1)
                    changed[at : at + width] = struct.pack(form, number)
        return bytes(changed)

    def _number(self, right: int) -> int:
        return self._random.choice((right, right + 1, max(0, right - 1), *INTERESTING))

    def _cut(self, data: bytes) -> list[bytes]:
        cuts = sorted(self._random.choices(range(len(data) + 1), k=self._random.randrange(4)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _uid_text(self, uid: str) -> str:
        if self._random.random() < 0.9:
            return uid
        return self._random.choice(UIDS).decode("latin-1").replace("\xff", "?")


@lru_cache
def _commitment() -> bytes:
    ds, item = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT_IMAGE_STORAGE, "1.2.3"
    ds.TransactionUID, ds.ReferencedSOPSequence = "1.2.9", [item]
    return data_set_bytes(ds)


@lru_cache
def _data_set(context: int) -> bytes:
    ds = radiograph(
        SOPClassUID=CT_IMAGE_STORAGE,
        SOPInstanceUID=INSTANCE.decode(),
        StudyInstanceUID=STUDY.decode(),
        SeriesInstanceUID="1.2.5",
        Modality="CT",
    )
    return data_set_bytes(ds, CONTEXTS[(context - 1) // 2][1][0])
