"""STOW-RS (PS3.18 section 10.5): what a client sends goes the way of a C-STORE."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydicom.uid import UID
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ledger.database import transaction
from ledger.errors import PacsightError
from ledger.events import record
from ledger.web_tables import Upload, UploadFile
from scp.completeness import RELEASED
from scp.contexts import is_storage_sop_class
from scp.errors import ReceiveError
from scp.ledger_writer import AssociationRecord
from viewer_api.context import WebContext
from viewer_api.dicomweb.attributes import Attributes, attributes
from viewer_api.dicomweb.media import DICOM
from viewer_api.errors import (
    MalformedError,
    TooManyFilesError,
    UnsupportedMediaError,
    UploadTooLargeError,
)
from viewer_api.roles import Permission, Principal
from viewer_api.upload_files import read_dicom

CALLING_AE_TITLE = "STOW-RS"
CANNOT_UNDERSTAND = 0xC000
SOP_CLASS_NOT_SUPPORTED = 0x0122
MISMATCH = 0xA900
"""Failure reasons (PS3.18 section 10.5.3, PS3.4 table B.2-1)."""
ALL_STORED, SOME_STORED, NONE_STORED = 200, 202, 409
TOO_LARGE = "The request is larger than allowed here; send the instances in several."


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of one instance; ``reason`` says why it was not stored, ``code`` in our words."""

    study_uid: str = ""
    series_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    reason: int | None = None
    code: str = ""


class PartWriter:
    """Takes the body of a request in chunks and writes each part to a file of its own.

    Parameters
    ----------
    content_type
        Of the request.

    Raises
    ------
    UnsupportedMediaError
        It is neither multipart/related of DICOM instances nor one such instance.
    """

    def __init__(
        self, content_type: str, folder: Path, *, max_parts: int, max_part: int, max_total: int
    ) -> None:
        self.paths: list[Path] = []
        self._folder = folder
        self._max_parts, self._max_part, self._left = max_parts, max_part, max_total
        self._file: BinaryIO | None = None
        self._size = 0
        self._is_ended = False
        self._parser: MultipartParser | None = None
        kind, options = parse_options_header(content_type)
        inner = options.get(b"type", DICOM.encode()).decode("latin-1").lower()
        if kind.lower() == DICOM.encode():
            self._begin()
        elif kind.lower() == b"multipart/related" and inner == DICOM:
            self._parser = self._multipart(options.get(b"boundary", b""))
        else:
            raise UnsupportedMediaError(
                'Only multipart/related; type="application/dicom" or application/dicom is taken.'
            )

    def _multipart(self, boundary: bytes) -> MultipartParser:
        if not boundary:
            raise MalformedError("The Content-Type names no boundary.")
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._close,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MalformedError("The boundary is too long.") from error

    def write(self, chunk: bytes) -> None:
        """Take some bytes of the body.

        Raises
        ------
        MalformedError, UploadTooLargeError, TooManyFilesError
            It isn't a multipart; a part, or all together, or their number is too large.
        """
        self._left -= len(chunk)
        if self._left < 0:
            raise UploadTooLargeError(TOO_LARGE)
        if self._parser is None:
            self._take(chunk)
            return
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedError("The body is no multipart with that boundary.") from error

    def finish(self) -> None:
        """Say that the body has ended.

        Raises
        ------
        MalformedError
            Too early, or there was nothing in it.
        """
        if self._parser is None:
            self._close()
        elif not self._is_ended:
            raise MalformedError("The body ends before its last boundary; send it again.")
        if not self.paths:
            raise MalformedError("There is no instance in the body.")

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._close()

    def _begin(self) -> None:
        if len(self.paths) >= self._max_parts:
            raise TooManyFilesError(f"A request has at most {self._max_parts} instances.")
        path = self._folder / f"{len(self.paths)}.dcm"
        self.paths.append(path)
        self._file, self._size = path.open("wb"), 0

    def _take(self, data: bytes) -> None:
        assert self._file is not None
        self._size += len(data)
        if self._size > self._max_part:
            raise UploadTooLargeError(TOO_LARGE)
        self._file.write(data)

    def _close(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    def _end(self) -> None:
        self._is_ended = True


@dataclass(frozen=True, slots=True)
class Keeper:
    """Stores files as one association of somebody."""

    context: WebContext
    user: Principal
    address: str
    study_uid: str | None = None
    """the only study that is taken, if the address of the request names one"""
    done: list[Stored] = field(default_factory=list)

    def store(self, paths: Sequence[Path]) -> list[Stored]:
        """Return what became of each file; what is stored is durable.

        Results go to the destinations if the sender may send results there.
        """
        with self.context.intake.association(
            CALLING_AE_TITLE, self.address, outcome=RELEASED
        ) as association:
            upload_id = self._claim(association)
            for path in paths:
                self.done.append(self._store(association, path))
                path.unlink()
            self._journal(upload_id)
        return self.done

    def _claim(self, association: AssociationRecord) -> str:
        """Write whose it is before the first object, so that none is routed without it."""
        upload_id, now = secrets.token_hex(16), self.context.clock()
        with transaction(self.context.database) as session:
            session.add(
                Upload(
                    id=upload_id,
                    user_id=self.user.user_id,
                    association_id=association.id,
                    is_delivered=self.user.may(Permission.DELIVER),
                    created_at=now,
                    stored_at=now,
                )
            )
        return upload_id

    def _store(self, association: AssociationRecord, path: Path) -> Stored:
        known = Stored(reason=CANNOT_UNDERSTAND)
        try:
            with path.open("rb") as file:
                item, facts = read_dicom(file)
                about = (
                    facts.study_instance_uid, facts.series_instance_uid, item.sop_class_uid,
                    item.sop_instance_uid,
                )  # fmt: skip
                if self.study_uid not in (None, facts.study_instance_uid):
                    return Stored(*about, MISMATCH, "OTHER_STUDY")
                if not is_storage_sop_class(UID(item.sop_class_uid)):
                    return Stored(*about, SOP_CLASS_NOT_SUPPORTED, "SOP_CLASS_NOT_SUPPORTED")
                known = Stored(*about)
                self.context.intake.store(association, item)
        except PacsightError as error:
            reason = error.status if isinstance(error, ReceiveError) else CANNOT_UNDERSTAND
            return Stored(
                known.study_uid, known.series_uid, known.sop_class_uid, known.sop_instance_uid,
                reason, error.code,
            )  # fmt: skip
        return known

    def _journal(self, upload_id: str) -> None:
        counts = Counter(one.study_uid for one in self.done if one.reason is None)
        refused = Counter(one.code for one in self.done if one.reason is not None)
        now = self.context.clock()
        with transaction(self.context.database) as session:
            for uid, count in counts.items():
                name = f"STOW-RS ({count})"
                session.add(
                    UploadFile(
                        upload_id=upload_id, name=name, size=0, kind="dicom", study_instance_uid=uid
                    )
                )
                detail = {"upload": upload_id, "by": CALLING_AE_TITLE, "instances": count}
                record(
                    session,
                    actor=self.user.login,
                    action="study.uploaded",
                    subject=uid,
                    detail=detail,
                    now=now,
                )
            if refused:
                record(
                    session,
                    actor=self.user.login,
                    action="instances.refused",
                    subject=f"upload:{upload_id}",
                    detail=dict(refused),
                    now=now,
                )


def status_of(done: Sequence[Stored]) -> int:
    """Return the HTTP status (PS3.18 table 10.5.3-1)."""
    failed = sum(one.reason is not None for one in done)
    if failed == 0:
        return ALL_STORED
    return NONE_STORED if failed == len(done) else SOME_STORED


def answer(done: Sequence[Stored], base: str) -> Attributes:
    """Return the Store Instances Response Module (PS3.18 annex I)."""
    studies = {one.study_uid for one in done if one.reason is None}
    stored, failed, others = [], [], []
    for one in done:
        if one.reason is None:
            where = (
                f"{base}/studies/{one.study_uid}/series/{one.series_uid}"
                f"/instances/{one.sop_instance_uid}"
            )
            stored.append(attributes(**_referenced(one), RetrieveURL=where))
        elif one.sop_instance_uid:
            failed.append(attributes(**_referenced(one), FailureReason=one.reason))
        else:
            others.append(attributes(FailureReason=one.reason))
    found = {
        "RetrieveURL": f"{base}/studies/{studies.pop()}" if len(studies) == 1 else None,
        "ReferencedSOPSequence": stored,
        "FailedSOPSequence": failed,
        "OtherFailuresSequence": others,
    }
    return attributes(**{key: value for key, value in found.items() if value})


def _referenced(one: Stored) -> dict[str, str]:
    return {
        "ReferencedSOPClassUID": one.sop_class_uid,
        "ReferencedSOPInstanceUID": one.sop_instance_uid,
    }
