"""What an uploaded file is, by its content; its name is only shown."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal

from pydicom.filereader import read_dataset
from pydicom.uid import MediaStorageDirectoryStorage

from inference.nifti import read_nifti
from inference.pictures import SIGNATURES
from inference.reading import read_image
from ledger.broken import BROKEN_DATA
from ledger.domain import InstanceFacts
from ledger.errors import UnreadableError
from scp.header import find_data_set, read_header
from scp.local_intake import LocalObject
from viewer_api.decoding import DecodingBudget, needed_bytes
from viewer_api.errors import (
    FileKindError,
    TooManyFilesError,
    UploadError,
    UploadTooLargeError,
    ZipRefusedError,
)

Kind = Literal["dicom", "picture", "nifti", "zip"]
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
GZIP = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
ABANDONED_S = 86400.0
MAX_RATIO = 1000
"""Unpacked to packed bytes of an archive's entry. Empty slices reach a few hundred."""
SKIPPED = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems put beside people's files; nobody misses it."""
_NIFTI = {348: (b"n+1\0", 344), 540: (b"n+2\0", 4)}  # header size: magic and its place
ENTRY_BYTES = 512
"""Longest average entry in an archive's list: 46 bytes, a name with its folders, times."""
_BROKEN_ZIP = (
    zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, zlib.error,
)  # fmt: skip
PREFIX_BYTES = 132
"""Preamble and ``DICM`` (PS3.10 section 7.1)."""
META_BYTES = 1 << 16


def inspect(path: Path, decoding: DecodingBudget) -> tuple[Kind, Path]:
    """Return what a file is, and where it lies now: some readers go by its suffix.

    Parameters
    ----------
    decoding
        Of which pictures and volumes take what they need.

    Raises
    ------
    FileKindError
        None of what can be used.
    ImageError, UnreadableError
        It is of a known kind, but damaged or too large.
    """
    with path.open("rb") as file:
        start = file.read(600)
        file.seek(0)
        if start.startswith(ZIP):
            return "zip", path
        if start.startswith(SIGNATURES):
            with decoding.hold(needed_bytes(path, "picture")):
                read_image(file)
            return "picture", path
        if start[128:132] == b"DICM":
            read_dicom(file)
            return "dicom", path
        suffix = _nifti_suffix(start, file)
    if suffix:
        renamed = path.rename(path.with_suffix(suffix))
        with decoding.hold(needed_bytes(renamed, "nifti")):
            read_nifti(renamed)
        return "nifti", renamed
    if not start:
        raise FileKindError("The file is empty.")
    raise FileKindError("The file is neither DICOM, PNG, JPEG, NIfTI nor a zip of them.")


def _nifti_suffix(start: bytes, file: BinaryIO) -> str:
    suffix = ".nii"
    if start.startswith(GZIP):
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                start = unpacked.read(600)
        except (OSError, EOFError, zlib.error):
            return ""
        suffix = ".nii.gz"
    for order in ("little", "big"):
        magic = _NIFTI.get(int.from_bytes(start[:4], order))
        if magic is not None and start[magic[1] : magic[1] + 4] == magic[0]:
            return suffix
    return ""


def read_dicom(file: BinaryIO) -> tuple[LocalObject, InstanceFacts]:
    """Check a Part 10 file and return it as an object to store, with what it is.

    Raises
    ------
    UnreadableError
        It can't be used, and why.
    FileKindError
        It is a DICOMDIR.
    """
    start = find_data_set(file)
    file.seek(PREFIX_BYTES)
    group = file.read(min(start - PREFIX_BYTES, META_BYTES))
    try:  # the meta information alone: pydicom would inflate a deflated data set whole
        meta = read_dataset(io.BytesIO(group), is_implicit_VR=False, is_little_endian=True)
        syntax = str(meta.get("TransferSyntaxUID") or "")
        sop_class = str(meta.get("MediaStorageSOPClassUID") or "")
    except (*BROKEN_DATA, OSError) as error:
        raise UnreadableError("The DICOM file can't be parsed; export it again.") from error
    if sop_class == MediaStorageDirectoryStorage:
        raise FileKindError("This is a DICOMDIR, a list of the other files; it is left out.")
    if not syntax or not sop_class:
        raise UnreadableError("The DICOM file's meta information is incomplete; export it again.")
    file.seek(0)
    facts = read_header(file, None, syntax).facts
    item = LocalObject(file, start, facts.sop_class_uid, facts.sop_instance_uid, syntax)
    return item, facts


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file of an archive: its name there, and where it lies now or why it isn't taken."""

    name: str
    path: Path | None
    size: int
    refusal: ZipRefusedError | None = None


class _Archive:
    """An open zip of which no piece is read that is larger than a list of `max_files` names.

    zipfile reads the list of contents whole, however long the archive says that it is.
    """

    def __init__(self, file: BinaryIO, max_files: int) -> None:
        self._file = file
        self._longest = max(CHUNK_BYTES, max_files * ENTRY_BYTES)
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self._longest:
            raise TooManyFilesError("The archive lists more files than are allowed; split it.")
        return self._file.read(size)


def unpack(archive: Path, folder: Path, *, max_files: int, max_bytes: int) -> Iterator[Unpacked]:
    """Unpack a zip into numbered files; names in it are never used as paths.

    What counts is what comes out, not what the archive says of itself.

    Raises
    ------
    ZipRefusedError
        It is damaged, encrypted or a bomb.
    TooManyFilesError, UploadTooLargeError
        More than allowed.
    """
    try:
        with archive.open("rb") as file, zipfile.ZipFile(_Archive(file, max_files)) as opened:
            entries = [
                entry
                for entry in opened.infolist()
                if not entry.is_dir() and not any(one in entry.filename for one in SKIPPED)
            ]
            if len(entries) > max_files:
                raise TooManyFilesError(f"The archive holds more than {max_files} files; split it.")
            left = max_bytes
            for number, entry in enumerate(entries):
                if entry.flag_bits & 1:
                    raise ZipRefusedError("The archive is encrypted; unpack it first.")
                target = folder / f"{archive.stem}-{number}.part"
                with opened.open(entry) as source:
                    size = _copy(source, target, min(left, MAX_RATIO * entry.compress_size + 4096))
                left -= size
                yield _nested(entry.filename, target, size)
    except _BROKEN_ZIP as error:
        raise ZipRefusedError(
            "The archive is damaged or of a kind not known; zip again."
        ) from error


def _copy(source: IO[bytes], target: Path, limit: int) -> int:
    size = 0
    with target.open("wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > limit:
                file.close()
                target.unlink()
                raise UploadTooLargeError("The archive unpacks to more than is allowed; split it.")
            file.write(chunk)
    return size


def _nested(name: str, path: Path, size: int) -> Unpacked:
    with path.open("rb") as file:
        is_zip = file.read(4) in ZIP
    if not is_zip:
        return Unpacked(name, path, size)
    path.unlink()
    return Unpacked(name, None, size, ZipRefusedError("An archive inside an archive; unpack it."))


def shown_name(name: str) -> str:
    """Return a file's name as people know it: without folders and control characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in last if character.isprintable())[:200] or "?"


def forget(folder: Path) -> None:
    """Remove the files of an upload."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(uploads_dir: Path, now: float) -> None:
    """Remove the files of uploads that nobody finished within a day."""
    if uploads_dir.is_dir():
        for folder in uploads_dir.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its upload has just been finished
                if now - folder.stat().st_mtime > ABANDONED_S:
                    forget(folder)


def file_of(folder: Path, key: int) -> Path:
    """Return the file of the row `key` of an upload.

    Raises
    ------
    UploadError
        It isn't there any more.
    """
    path = next(folder.glob(f"{key}.*"), None)
    if path is None:
        raise UploadError("The file waited too long and is gone; hand it in again.")
    return path
