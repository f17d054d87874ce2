"""Uploads from their first file to objects in the spool: the same way on as C-STORE."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom import Dataset
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_out.picture import picture_to_dicom
from dicom_out.volume import volume_to_dicom
from inference.manifest import Accepts
from inference.nifti import read_nifti
from inference.quality import check_picture
from inference.reading import read_image
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from ledger.database import reading, transaction
from ledger.domain import PatientFacts
from ledger.errors import PacsightError
from ledger.events import record
from ledger.tables import Association
from ledger.web_tables import Upload, UploadFile
from scp.completeness import UPLOADED
from scp.ledger_writer import AssociationRecord
from viewer_api.context import WebContext
from viewer_api.errors import (
    KindNeededError,
    PageNotFoundError,
    UploadClosedError,
    UploadError,
    UploadTooLargeError,
)
from viewer_api.roles import Principal
from viewer_api.upload_files import (
    forget,
    inspect,
    read_dicom,
    remove_abandoned,
    shown_name,
    unpack,
)

CALLING_AE_TITLE = "WEB-UPLOAD"
PICTURE = "OT"
"""Modality of a picture that says nothing of itself: other (PS3.3 C.7.3.1.1.1)."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants done with the files.

    ``model_id`` is the only model to ask; None asks all that fit.
    """

    patient: PatientFacts
    model_id: str | None
    is_delivered: bool


def begin(context: WebContext, user: Principal) -> str:
    """Open an upload and return its id, which nobody can guess."""
    remove_abandoned(context.uploads_dir, context.clock())
    upload_id = secrets.token_hex(16)
    with transaction(context.database) as session:
        session.add(
            Upload(
                id=upload_id,
                user_id=user.user_id,
                is_delivered=False,
                created_at=context.clock(),
            )
        )
    (context.uploads_dir / upload_id).mkdir(parents=True, mode=0o750)
    return upload_id


def open_upload(
    session: Session, user: Principal, upload_id: str, *, is_locked: bool = False
) -> Upload:
    """Return one of one's own uploads that still takes files.

    Raises
    ------
    PageNotFoundError, UploadClosedError
        There is none; it is finished.
    """
    upload = _own_upload(session, user, upload_id, is_locked=is_locked)
    if upload.association_id is not None:
        raise UploadClosedError("This upload is finished; start another one.")
    return upload


def _own_upload(
    session: Session, user: Principal, upload_id: str, *, is_locked: bool = False
) -> Upload:
    upload = session.get(Upload, upload_id, with_for_update=is_locked)
    if upload is None or upload.user_id != user.user_id:
        raise PageNotFoundError("There is no such upload of yours.")
    return upload


def room_left(context: WebContext, user: Principal, upload_id: str) -> tuple[int, int]:
    """Return how many bytes and files an open upload may still take."""
    with reading(context.database) as session:
        open_upload(session, user, upload_id)
        size, count = session.execute(
            select(func.coalesce(func.sum(UploadFile.size), 0), func.count()).where(
                UploadFile.upload_id == upload_id, UploadFile.kind != "zip"
            )
        ).one()
    return context.config.max_upload_bytes - int(size), context.config.max_files - int(count)


def _room_for(context: WebContext, user: Principal, upload_id: str, size: int) -> tuple[int, int]:
    left, files = room_left(context, user, upload_id)
    if size > left or files < 1:  # others came while this one did
        raise UploadTooLargeError("With the other files this is more than allowed; split it.")
    return left, files


def take_file(
    context: WebContext, user: Principal, upload_id: str, name: str, received: Path
) -> list[UploadFile]:
    """Look at a file that has come, unpack it if it is an archive, and write down what it is."""
    size = received.stat().st_size
    left, files = _room_for(context, user, upload_id, size)
    try:
        kind, path = inspect(received)
    except PacsightError as error:
        received.unlink(missing_ok=True)
        return _write(context, user, [_refused(upload_id, name, size, error)])
    if kind != "zip":
        row = UploadFile(upload_id=upload_id, name=shown_name(name), size=size, kind=kind)
        return _write(context, user, [row], {0: path})
    rows: list[UploadFile] = []
    paths: dict[int, Path] = {}
    archive = UploadFile(upload_id=upload_id, name=shown_name(name), size=size, kind="zip")
    try:
        for item in unpack(received, received.parent, max_files=files, max_bytes=left):
            label = f"{shown_name(name)} › {shown_name(item.name)}"
            try:
                if item.path is None:
                    raise item.refusal or UploadError("The file is not taken.")
                kind, path = inspect(item.path)
            except PacsightError as error:
                if item.path is not None:
                    item.path.unlink(missing_ok=True)
                rows.append(_refused(upload_id, label, item.size, error))
                continue
            paths[len(rows)] = path
            rows.append(UploadFile(upload_id=upload_id, name=label, size=item.size, kind=kind))
    except PacsightError as error:
        for path in received.parent.glob(f"{received.stem}-*"):
            path.unlink()
        return _write(context, user, [_refused(upload_id, name, size, error)])
    finally:
        received.unlink(missing_ok=True)
    if not rows:
        empty = _refused(upload_id, name, size, UploadError("It is empty."))
        return _write(context, user, [empty])
    return _write(context, user, [*rows, archive], paths)


def _refused(upload_id: str, name: str, size: int, error: PacsightError) -> UploadFile:
    return UploadFile(
        upload_id=upload_id,
        name=name if "›" in name else shown_name(name),
        size=size,
        kind="",
        code=error.code,
        message=str(error),
    )


def _write(
    context: WebContext,
    user: Principal,
    rows: list[UploadFile],
    paths: dict[int, Path] | None = None,
) -> list[UploadFile]:
    """Commit the rows, and give each file the number of its row as its name.

    Raises
    ------
    UploadClosedError
        The upload was finished meanwhile: without this file.
    """
    with transaction(context.database) as session:
        open_upload(session, user, rows[0].upload_id, is_locked=True)
        session.add_all(rows)
        session.flush()
        for position, path in (paths or {}).items():
            path.rename(path.with_name(f"{rows[position].id}{_suffix(path)}"))
    return rows


def _suffix(path: Path) -> str:
    return ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix


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
    kinds = _kinds(context.registry, left, folder, wishes)
    if broken_off is None:
        _refuse_if_nothing_is_left(kinds)
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
                uid = _store(context, association, row, _file(folder, row), kind, wishes)
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
    key = _own_upload(session, user, upload_id).association_id
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
        upload = _own_upload(session, user, upload_id, is_locked=True)
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


def _file(folder: Path, row: UploadFile) -> Path:
    path = next(folder.glob(f"{row.id}.*"), None)
    if path is None:
        raise UploadError("The file waited too long and is gone; hand it in again.")
    return path


def _kinds(
    registry: Registry, rows: Sequence[UploadFile], folder: Path, wishes: Wishes
) -> dict[int, Accepts | UploadError | None]:
    """Return what each picture and volume is taken for, or why it can't be: DICOM says it."""
    kinds: dict[int, Accepts | UploadError | None] = {}
    for row in rows:
        try:
            kinds[row.id] = _kind(registry, row, folder, wishes)
        except UploadError as error:
            kinds[row.id] = error
    return kinds


def _refuse_if_nothing_is_left(kinds: dict[int, Accepts | UploadError | None]) -> None:
    """Raise the first error if there is nothing else: another model may be chosen then."""
    errors = [kind for kind in kinds.values() if isinstance(kind, UploadError)]
    if len(errors) == len(kinds):
        raise errors[0]


def _kind(registry: Registry, row: UploadFile, folder: Path, wishes: Wishes) -> Accepts | None:
    package = registry.get(wishes.model_id) if wishes.model_id else None
    if row.kind == "dicom":
        return None
    if row.kind == "picture":
        return (
            picture_kind(package)
            if package
            else recognise(registry, read_image(_file(folder, row)))
        )
    if package is None or package.manifest.input.unit != "series":
        raise KindNeededError("A volume doesn't tell what it shows; choose a model for volumes.")
    return package.manifest.accepts[0]


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
        datasets = volume_to_dicom(
            volume.array, volume.affine, seed=seed, now=now, patient=wishes.patient
        )
    for dataset in datasets:
        dataset.BodyPartExamined = next((part for part in accepts.body_part_examined if part), "")
        dataset.SeriesDescription = "Uploaded"
        yield dataset


def picture_kind(package: ModelPackage) -> Accepts:
    """Return the alternative of a model that takes pictures without a header.

    Raises
    ------
    KindNeededError
        The model takes series only.
    """
    manifest = package.manifest
    if manifest.input.unit != "image":
        raise KindNeededError(f"{manifest.name!r} needs a series or a volume, not a picture.")
    for accepts in manifest.accepts:
        if PICTURE in accepts.modality:
            return accepts.model_copy(update={"modality": (PICTURE,)})
    return manifest.accepts[0]


def recognise(registry: Registry, image: SourceImage) -> Accepts:
    """Return what a picture shows, as most of the models say whose gates let it through.

    Raises
    ------
    KindNeededError
        None does.
    """
    votes: Counter[str] = Counter()
    kinds: dict[str, Accepts] = {}
    for package in registry.models:
        manifest = package.manifest
        if manifest.input.unit != "image" or manifest.gate is None:
            continue
        if check_picture(image, package) is None:
            accepts = picture_kind(package)
            part = next((one for one in accepts.body_part_examined if one), "")
            votes[part] += 1
            kinds.setdefault(part, accepts)
    if not votes:
        raise KindNeededError(
            "No model knows this kind of picture. If one should, choose it: then it says why not."
        )
    return kinds[votes.most_common(1)[0][0]]


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
