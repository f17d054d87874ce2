"""Uploads from their first file to objects in the spool: the same way on as C-STORE."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_out.picture import picture_to_dicom
from dicom_out.volume import volume_to_dicom
from inference.manifest import Accepts
from inference.nifti import read_nifti
from inference.reading import read_image
from ledger.database import reading, transaction
from ledger.domain import PatientFacts
from ledger.errors import PacsightError
from ledger.events import record
from ledger.tables import Association
from ledger.web_tables import UploadFile
from scp.completeness import UPLOADED
from scp.ledger_writer import AssociationRecord
from viewer_api.context import WebContext
from viewer_api.decoding import needed_bytes
from viewer_api.errors import UploadClosedError, UploadError
from viewer_api.roles import Principal
from viewer_api.upload_files import file_of, forget, read_dicom
from viewer_api.upload_intake import own_upload
from viewer_api.upload_kinds import kinds_of, refuse_if_nothing_is_left

CALLING_AE_TITLE = "WEB-UPLOAD"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants done with the files.

    ``model_id`` is the only model to ask; None asks all that fit.
    """

    patient: PatientFacts
    model_id: str | None
    is_delivered: bool


def finish(
    context: WebContext, user: Principal, upload_id: str, wishes: Wishes, address: str
) -> list[str]:
    """Store everything that was taken and return the Study Instance UIDs.

    What broke off, by an error or a power cut, goes on where it stood when it is asked for again.

    Raises
    ------
    UploadError
        Nothing can be stored.
    ReceiveError
        The spool or the ledger doesn't take it, or somebody else is at it; what isn't stored yet
        stays for another try.
    """
    folder = context.uploads_dir / upload_id
    with reading(context.database) as session:
        broken_off = _broken_off(session, user, upload_id)
        rows = _taken(session, upload_id)
    if not rows:
        raise UploadError("There is no file that can be analysed; add one.")
    left = [row for row in rows if row.study_instance_uid is None and row.code is None]
    kinds = kinds_of(context.registry, left, folder, wishes.model_id, context.decoding)
    if broken_off is None:
        refuse_if_nothing_is_left(kinds)
    studies = {row.study_instance_uid: None for row in rows if row.study_instance_uid}
    with context.intake.association(
        CALLING_AE_TITLE, address, broken_off=broken_off
    ) as association:
        _claim(context, user, upload_id, wishes, association, len(rows))
        for row in left:
            kind = kinds[row.id]
            try:
                if isinstance(kind, UploadError):
                    raise kind
                path = file_of(folder, row.id)
                with context.decoding.hold(needed_bytes(path, row.kind)):
                    uid = _store(context, association, row, path, kind, wishes)
            except PacsightError as error:
                if error.retryable:
                    raise
                _settle(context, row.id, code=error.code, message=str(error))
                continue
            studies[uid] = None
            _settle(context, row.id, uid=uid)
        _journal(context, user, upload_id, list(studies), wishes)
    forget(folder)
    return list(studies)


def _broken_off(session: Session, user: Principal, upload_id: str) -> int | None:
    """Return the association to go on with, if storing was begun before."""
    key = own_upload(session, user, upload_id).association_id
    if key is not None and session.get_one(Association, key).outcome == UPLOADED:
        raise UploadClosedError("This upload is finished; start another one.")
    return key


def _claim(
    context: WebContext,
    user: Principal,
    upload_id: str,
    wishes: Wishes,
    association: AssociationRecord,
    files: int,
) -> None:
    """Write the wishes before the first object, so that no object is ever routed without them."""
    with transaction(context.database) as session:
        upload = own_upload(session, user, upload_id, is_locked=True)
        if upload.association_id not in (None, association.id):
            raise UploadClosedError("This upload is finished; start another one.")
        if len(_taken(session, upload_id)) != files:
            raise UploadError("Another file has just come; analyse again.")
        upload.association_id = association.id
        upload.model_id, upload.is_delivered = wishes.model_id, wishes.is_delivered
        upload.stored_at = context.clock()


def _taken(session: Session, upload_id: str) -> Sequence[UploadFile]:
    return session.scalars(
        select(UploadFile)
        .where(UploadFile.upload_id == upload_id, UploadFile.kind.not_in(["", "zip"]))
        .order_by(UploadFile.id)
    ).all()


def _store(
    context: WebContext,
    association: AssociationRecord,
    row: UploadFile,
    path: Path,
    kind: Accepts | None,
    wishes: Wishes,
) -> str:
    if kind is None:
        with path.open("rb") as file:
            item, facts = read_dicom(file)
            context.intake.store(association, item)
        return facts.study_instance_uid
    uid = ""
    for dataset in _made(row, path, kind, wishes):
        with io.BytesIO() as buffer:
            dataset.save_as(buffer, enforce_file_format=True)
            buffer.seek(0)
            item, facts = read_dicom(buffer)
            context.intake.store(association, item)
            uid = facts.study_instance_uid
    return uid


def _made(row: UploadFile, path: Path, accepts: Accepts, wishes: Wishes) -> Iterator[Dataset]:
    """Yield the DICOM objects of a picture or a volume; each upload makes a study of its own."""
    description = "Uploaded"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    seed, now = f"{row.upload_id}/{digest}", datetime.now().astimezone()
    if row.kind == "picture":
        picture = read_image(path).display
        datasets = [
            picture_to_dicom(
                picture,
                seed=seed,
                now=now,
                modality=accepts.modality[0],
                patient=wishes.patient,
            )
        ]
    else:
        volume = read_nifti(path)
        if volume.volumes > 1:
            description = f"Uploaded, volume 1 of {volume.volumes}"
        datasets = volume_to_dicom(
            volume.array, volume.affine, seed=seed, now=now, patient=wishes.patient
        )
    for dataset in datasets:
        dataset.BodyPartExamined = next((part for part in accepts.body_part_examined if part), "")
        dataset.SeriesDescription = description
        yield dataset


def _settle(
    context: WebContext,
    row_id: int,
    *,
    uid: str | None = None,
    code: str | None = None,
    message: str | None = None,
) -> None:
    with transaction(context.database) as session:
        row = session.get_one(UploadFile, row_id)
        row.study_instance_uid, row.code, row.message = uid, code, message


def _journal(
    context: WebContext, user: Principal, upload_id: str, studies: list[str], wishes: Wishes
) -> None:
    detail = {"upload": upload_id, "model": wishes.model_id, "delivered": wishes.is_delivered}
    with transaction(context.database) as session:
        for uid in studies:
            record(
                session,
                actor=user.login,
                action="study.uploaded",
                subject=uid,
                detail=detail,
                now=context.clock(),
            )
