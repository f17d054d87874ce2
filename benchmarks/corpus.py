"""What becomes of each file of a folder of DICOM test files: routed, refused or quarantined.

Every file goes the way of a received object: header into the index (or quarantine), routing by all
installed models, pixels, the models' gates. Each is done in a process of its own with a time
limit, so that a crash or an endless loop is a line of the table too::

    python -m benchmarks.corpus --dicom DIR [--limit 30] [--write docs/corpus.md]

Ends with status 1 if a file crashed, hung, or ended in none of the three ways.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian

from inference.errors import ImageError
from inference.manifest import Manifest
from inference.quality import check_source
from inference.reading import read_image
from inference.registry import Registry, scan_models
from inference.routing import route
from inference.volume import read_series
from ledger.domain import InstanceFacts
from ledger.errors import PacsightError, UnreadableError
from scp.header import read_header

REPOSITORY = Path(__file__).parents[1]
ENDS = ("read and routed", "refused", "quarantined")
PAGE = """# What becomes of {files} public test files

Written by `python -m benchmarks.corpus --dicom DIR --write docs/corpus.md`. The files are the
DICOM test files of pydicom, fo-dicom and other projects: every kind of object, compression and
defect. Each goes the way of a received object (header into the index or into quarantine, routing by
all shipped models, pixels, the models' gates) with a time limit of {limit} s.
*Pixels* says whether the first frame could be decoded, whatever the models said.

{summary}

| file | SOP class | pixels | end | why |
|---|---|---|---|---|
{rows}
"""

_registry: Registry | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One file's line of the table."""

    file: str
    sop_class: str
    pixels: str
    end: str
    why: str


def main() -> int:
    """Judge every file; print or write the table."""
    arguments = _arguments()
    files = sorted(path for path in arguments.dicom.rglob("*") if path.is_file())
    files = [path for path in files if path.suffix not in {".csv", ".md"}]
    lines = [
        Line(str(path.relative_to(arguments.dicom)), *answer)
        for path, answer in zip(files, _judge_all(files, arguments.limit), strict=True)
    ]
    page = _page(lines, arguments.limit)
    if arguments.write:
        arguments.write.write_text(page, encoding="utf-8")
    else:
        print(page)
    failed = [line for line in lines if line.end not in ENDS]
    for line in failed:
        print(f"{line.file}: {line.end}", file=sys.stderr)
    return 1 if failed else 0


def _judge_all(files: list[Path], limit_s: float) -> list[tuple[str, str, str, str]]:
    """Judge files one after the other; a process that crashes or hangs is replaced."""
    answers = []
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(1, context, initializer=_load)
    for path in files:
        try:
            answers.append(pool.submit(judge, path).result(timeout=limit_s))
            continue
        except TimeoutError:
            answers.append(("", "", "HUNG", f"longer than {limit_s:g} s"))
        except BrokenProcessPool:
            answers.append(("", "", "CRASHED", "the process ended"))
        except Exception as error:  # noqa: BLE001 - what should never escape is what is looked for
            answers.append(("", "", "ESCAPED", type(error).__name__))
            continue
        for process in list(multiprocessing.active_children()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        pool = ProcessPoolExecutor(1, context, initializer=_load)
    pool.shutdown()
    return answers


def _load() -> None:
    global _registry
    _registry = scan_models(REPOSITORY / "checkpoints")


def judge(path: Path) -> tuple[str, str, str, str]:
    """Return SOP class, pixels, end and reason of one file."""
    assert _registry is not None
    data, uid, syntax = _as_received(path)
    try:
        facts = read_header(io.BytesIO(data), uid, syntax).facts
    except UnreadableError as error:
        return "", _pixels(data), "quarantined", f"`{error.code}`"
    sop_class = UID(facts.sop_class_uid).name
    facts = InstanceFacts.from_json({**facts.to_json(), "transfer_syntax_uid": syntax})
    decisions = route([facts], _registry.manifests)
    taken = [one.model.model_id for one in decisions if one.refusal is None]
    if not taken:
        codes = {one.refusal.code for one in decisions if one.refusal is not None}
        kinds = codes - {"MODALITY_NOT_ACCEPTED"} or codes
        return sop_class, _pixels(data), "refused", ", ".join(f"`{code}`" for code in sorted(kinds))
    refusals = {model: _refusal(data, _registry, model) for model in taken}
    passed = [model for model, code in refusals.items() if not code]
    if passed:
        return sop_class, "read", "read and routed", ", ".join(passed)
    codes = set(refusals.values())
    return sop_class, _pixels(data), "refused", ", ".join(f"`{code}`" for code in sorted(codes))


def _as_received(path: Path) -> tuple[bytes, str, str]:
    """Return a file as the receiver would have stored it: with new file meta information."""
    raw = path.read_bytes()
    try:
        with io.BytesIO(raw) as file:
            header = dcmread(file, force=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        meta = header.file_meta
        uid = str(header.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "")
        syntax = str(meta.get("TransferSyntaxUID") or _bare_syntax(header))
        start = _data_set_start(raw)
    except (InvalidDicomError, *_BROKEN):
        return raw, "", ""
    fresh = FileMetaDataset()
    fresh.MediaStorageSOPClassUID = str(header.get("SOPClassUID") or "1.2")
    fresh.MediaStorageSOPInstanceUID, fresh.TransferSyntaxUID = uid or "1.2", syntax
    fresh.FileMetaInformationVersion = b"\0\1"
    written = DicomBytesIO()
    written.is_little_endian, written.is_implicit_VR = True, False
    written.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(written, fresh, enforce_standard=True)
    return written.getvalue() + raw[start:], uid, syntax


_BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError,
           RuntimeError, TypeError, ValueError)  # fmt: skip


def _bare_syntax(header: object) -> str:
    is_implicit, is_little = getattr(header, "original_encoding", (True, True))
    if is_implicit:
        return str(ImplicitVRLittleEndian)
    return "1.2.840.10008.1.2.1" if is_little else "1.2.840.10008.1.2.2"


def _data_set_start(raw: bytes) -> int:
    """Return where the data set starts behind preamble and group 0002, if there are any."""
    file = io.BytesIO(raw)
    read_preamble(file, force=True)
    if raw[128:132] != b"DICM":
        file.seek(0)
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8 or head[:2] != b"\x02\x00":
            return start
        if head[4:6] in {b"OB", b"OW", b"UN", b"UT", b"SQ"}:
            length = int.from_bytes(file.read(4), "little")
        else:
            length = int.from_bytes(head[6:8], "little")
        file.seek(length, io.SEEK_CUR)


def _refusal(data: bytes, registry: Registry, model_id: str) -> str:
    """Return the code with which reading or a model's gate refuses, or ``""``."""
    package = registry.get(model_id)
    try:
        check_source(_source(data, package.manifest), package)
    except PacsightError as error:
        return error.code
    return ""


def _source(data: bytes, manifest: Manifest):  # type: ignore[no-untyped-def]  # either kind
    if manifest.input.unit == "series":
        return read_series([io.BytesIO(data)])
    return read_image(io.BytesIO(data))


def _pixels(data: bytes) -> str:
    try:
        read_image(io.BytesIO(data))
    except (ImageError, UnreadableError) as error:
        return f"`{error.code}`"
    return "read"


def _page(lines: list[Line], limit_s: float) -> str:
    counts = Counter(line.end for line in lines)
    summary = "\n".join(
        [
            "| end | files |",
            "|---|---|",
            *(f"| {end} | {count} |" for end, count in sorted(counts.items())),
            f"| all | {len(lines)} |",
        ]
    )
    rows = "\n".join(
        f"| {line.file} | {line.sop_class} | {line.pixels} | {line.end} | {line.why} |"
        for line in lines
    )
    return PAGE.format(files=len(lines), limit=f"{limit_s:g}", summary=summary, rows=rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dicom", type=Path, required=True, help="folder of DICOM files")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for each file")
    parser.add_argument("--write", type=Path, help="the page to write; else it is printed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
