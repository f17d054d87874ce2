"""Small files that become very large, or say so.

``python -m tests.reliability.bombs FOLDER --write`` writes them; without the option it reads them
all in one process and prints, for each, the coded answer and the peak of memory until then. With
``--full`` headers may have as many parts as in service; that takes half a minute a header.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.scp.received import radiograph

MB = 1 << 20
FEW_READS = 50_000
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


@dataclass(frozen=True, slots=True)
class Bomb:
    """A file to write, who reads it, and the code of the answer; None if it is taken."""

    make: Callable[[Path], object]
    reader: str
    code: str | None


# -- pictures


def png(width: int, height: int, kind: int, rows: bytes, *chunks: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    between = b"".join(chunk(b"zTXt", one) for one in chunks)
    end = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + between + end


def zeros(size: int, window: int = zlib.MAX_WBITS) -> bytes:
    """Return zeros, deflated, without packing all of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    start = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(size % MB)) + packer.flush()
    return start + block * (size // MB - 1) + rest


def png_of_zeros(width: int, height: int, channels: int) -> bytes:
    kind = {1: 0, 3: 2}[channels]
    return png(width, height, kind, zlib.compress(bytes((width * channels + 1) * height), 9))


# -- DICOM


def dicom(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compressed(syntax: str, frame: bytes) -> bytes:
    dataset = radiograph(Rows=64, Columns=64, PixelData=encapsulate([frame]))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return dicom(dataset, syntax)


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + bytes((1, 0x11, 0))
    return b"\xff\xd8" + b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\0\2"


def jpeg_ls(width: int, height: int) -> bytes:
    return jpeg(width, height).replace(b"\xff\xc0", b"\xff\xf7")


def jpeg_2000(width: int, height: int, components: int = 1) -> bytes:
    size = (
        struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, width, height, 0, 0, components)
        + bytes((7, 1, 1)) * components
    )
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size


def jp2(codestream: bytes) -> bytes:
    """Return it in boxes, with a decoy of a small stream before it."""
    decoy = jpeg_2000(8, 8)
    return (
        b"\0\0\0\x0cjP  \r\n\x87\n"
        + struct.pack(">I4s", len(decoy) + 8, b"uuid") + decoy
        + struct.pack(">I4s", 0, b"jp2c") + codestream
    )  # fmt: skip


def rle(megabytes: int) -> bytes:
    return struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (megabytes * MB // 2)


def deflated(size: int) -> bytes:
    whole = dicom(radiograph(), DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(whole[140:144], "little")
    return whole[:start] + zeros(size, -zlib.MAX_WBITS)


def with_sequence(body: bytes, length: int = 0xFFFFFFFF, tag: int = 0x52009230) -> bytes:
    """Return an image whose per-frame groups (or another sequence) are `body`."""
    whole = dicom(radiograph())
    pixels = whole.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB")[:4])
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, length)
    return whole[:pixels] + head + body + whole[pixels:]


def many_items(count: int) -> bytes:
    return with_sequence(ITEM * count + SEQUENCE_END)


def many_items_of_known_length(count: int) -> bytes:
    return with_sequence(ITEM * count, 8 * count)


def many_elements(count: int) -> bytes:
    number = np.arange(count)
    item = np.zeros(count, [("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")])
    item["group"], item["element"], item["vr"] = 9 + 2 * (number >> 16), number & 0xFFFF, b"CS"
    undefined = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return with_sequence(
        undefined + item.tobytes() + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + SEQUENCE_END
    )


def nested(depth: int) -> bytes:
    begin = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
    return with_sequence(
        (struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + begin) * depth, tag=0x00400275
    )


# -- NIfTI and zip


def nifti(size: int, *, shape: tuple[int, int, int] = (8, 8, 8), start: float = 352.0) -> bytes:
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, 16, 32)  # float32
    struct.pack_into("<4f", head, 76, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, start)
    head[344:348] = b"n+1\0"
    if start > 352:  # an extension as long as what lies before the voxels
        head[348] = 1
        head += struct.pack("<ii", int(start) - 352, 0)
    return gzip.compress(bytes(head)) + gzip_of_zeros(size)


def gzip_of_zeros(size: int) -> bytes:
    body = zeros(size, -zlib.MAX_WBITS)
    checksum = 0
    for _ in range(size // MB):
        checksum = zlib.crc32(bytes(MB), checksum)
    tail = struct.pack("<LL", checksum, size & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + tail


def zip_of_zeros(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", bytes(200 * MB))


def zip_with_entries(path: Path, count: int) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[20, 20, 0, 0, 0, 0], *[0, 0, 0],
                        *[1, 0, 0, 0, 0], 0, 0) + b"a"  # fmt: skip
    path.write_bytes(
        b"PK\x03\x04" + bytes(26) + entry * count + _end(count, len(entry) * count, 30)
    )


def zip_with_a_long_list(path: Path) -> None:
    """A hole of 1 GiB where the list of contents is said to be."""
    size = 1 << 30
    with path.open("wb") as file:
        file.write(b"PK\x03\x04" + bytes(26))
        file.seek(30 + size)
        file.write(_end(5, size, 30))


def _end(count: int, size: int, offset: int) -> bytes:
    return struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, size, offset, 0
    )


def file(content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content())


BOMBS: dict[str, Bomb] = {
    "PNG: 3,600 million pixels": Bomb(
        file(lambda: png(60_000, 60_000, 2, zeros(MB))), "upload", "IMAGE_TOO_LARGE"
    ),
    "PNG: 1 GiB of text": Bomb(
        file(
            lambda: png(64, 64, 0, zlib.compress(bytes(65 * 64)), b"Comment\0\0" + zeros(1 << 30))
        ),
        *("upload", "PIXELS_UNREADABLE"),
    ),
    "JPEG 2000: a larger stream than its header says": Bomb(
        file(lambda: compressed(JPEG2000Lossless, jpeg_2000(60_000, 60_000))),
        *("pixels", "IMAGE_TOO_LARGE"),
    ),
    "JPEG 2000: 16,384 components": Bomb(
        file(lambda: compressed(JPEG2000Lossless, jpeg_2000(64, 64, 16_384))),
        *("pixels", "IMAGE_TOO_LARGE"),
    ),
    "JPEG 2000: in a JP2 file, behind a decoy": Bomb(
        file(lambda: compressed(JPEG2000Lossless, jp2(jpeg_2000(60_000, 60_000)))),
        *("pixels", "IMAGE_TOO_LARGE"),
    ),
    "JPEG: a larger stream than its header says": Bomb(
        file(lambda: compressed(JPEGBaseline8Bit, jpeg(65_500, 65_500))),
        *("pixels", "IMAGE_TOO_LARGE"),
    ),
    "JPEG-LS: a larger stream than its header says": Bomb(
        file(lambda: compressed(JPEGLSLossless, jpeg_ls(65_500, 65_500))),
        *("pixels", "IMAGE_TOO_LARGE"),
    ),
    "RLE: 20 MB of runs become 1.3 GB": Bomb(
        file(lambda: compressed(RLELossless, rle(20))), "pixels", "IMAGE_TOO_LARGE"
    ),
    "deflated: a header of 4 GiB, received": Bomb(
        file(lambda: deflated(4 << 30)), "received", "HEADER_TOO_LARGE"
    ),
    "deflated: 1.5 GiB, read for its pixels": Bomb(
        file(lambda: deflated(3 << 29)), "pixels", "IMAGE_TOO_LARGE"
    ),
    "2,147,483,647 frames, of which one is there": Bomb(
        file(lambda: dicom(radiograph(NumberOfFrames=2_147_483_647))), "pixels", None
    ),
    "sequence: millions of items, received": Bomb(
        file(lambda: many_items(2_000_000)), "received", "HEADER_TOO_LARGE"
    ),
    "sequence: millions of items, uploaded": Bomb(
        file(lambda: many_items(2_000_000)), "upload", "HEADER_TOO_LARGE"
    ),
    "sequence: millions of items of known length": Bomb(
        file(lambda: many_items_of_known_length(3_000_000)), "pixels", "HEADER_TOO_LARGE"
    ),
    "item: millions of elements": Bomb(
        file(lambda: many_elements(5_000_000)), "received", "HEADER_TOO_LARGE"
    ),
    "sequence: 100,000 levels deep": Bomb(
        file(lambda: nested(100_000)), "received", "HEADER_UNREADABLE"
    ),
    "gzip NIfTI: 27,000 million voxels": Bomb(
        file(lambda: nifti(MB, shape=(30_000, 30_000, 30_000))), "upload", "VOLUME_TOO_LARGE"
    ),
    "gzip NIfTI: 2 GiB before its voxels": Bomb(
        file(lambda: nifti(1 << 30, start=2.0**31 - 256)), "upload", "NOT_AN_IMAGE"
    ),
    "gzip NIfTI: 4 GiB behind its voxels": Bomb(file(lambda: nifti(4 << 30)), "upload", None),
    "zip: 200 MB of nothing": Bomb(zip_of_zeros, "archive", "UPLOAD_TOO_LARGE"),
    "zip: 2 million entries": Bomb(
        lambda path: zip_with_entries(path, 2_000_000), "archive", "TOO_MANY_FILES"
    ),
    "zip: a list of contents of 1 GiB": Bomb(zip_with_a_long_list, "archive", "TOO_MANY_FILES"),
    "PNG: the largest that is taken": Bomb(
        file(lambda: png_of_zeros(10_000, 5_000, 3)), "upload", None
    ),
}


def write(folder: Path) -> None:
    """Write all of them, numbered."""
    folder.mkdir()
    for number, bomb in enumerate(BOMBS.values()):
        bomb.make(folder / f"{number:02d}.part")


def read(path: Path, reader: str) -> None:
    """Read one as the service does."""
    from inference.reading import read_image
    from scp.header import read_header
    from viewer_api.decoding import DecodingBudget
    from viewer_api.upload_files import inspect, unpack

    match reader:
        case "upload":
            inspect(path, DecodingBudget(1 << 30))
        case "archive":
            inside = path.with_suffix("")
            inside.mkdir()
            list(unpack(path, inside, max_files=5000, max_bytes=4 << 30))
        case "pixels":
            read_image(path)
        case "received":
            with path.open("rb") as opened:
                syntax = str(read_file_meta_info(path).TransferSyntaxUID)
                read_header(opened, None, syntax)


def main(folder: str, *options: str) -> None:
    if "--write" in options:
        write(Path(folder))
        return
    import inference.reading  # noqa: F401 - what is imported is no bomb's
    import ledger.parts
    from ledger.errors import PacsightError

    if "--full" not in options:
        ledger.parts.MAX_READS = FEW_READS
    for number, (name, bomb) in enumerate(BOMBS.items()):
        start, code = time.monotonic(), None
        try:
            read(Path(folder) / f"{number:02d}.part", bomb.reader)
        except PacsightError as error:
            code = error.code
        # VmHWM, not getrusage(): there a new program inherits the peak of who started it
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
        seconds = round(time.monotonic() - start, 2)
        print(json.dumps({"name": name, "code": code, "peak_mb": peak, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
