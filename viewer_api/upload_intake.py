"""Files of an upload as they come: looked at, unpacked, written down; nothing is stored yet."""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ledger.database import reading, transaction
from ledger.errors import PacsightError
from ledger.web_tables import Upload, UploadFile
from viewer_api.context import WebContext
from viewer_api.errors import (
    PageNotFoundError,
    UploadClosedError,
    UploadError,
    UploadTooLargeError,
)
from viewer_api.roles import Principal
from viewer_api.upload_files import inspect, remove_abandoned, shown_name, unpack


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
    upload = own_upload(session, user, upload_id, is_locked=is_locked)
    if upload.association_id is not None:
        raise UploadClosedError("This upload is finished; start another one.")
    return upload


def own_upload(
    session: Session, user: Principal, upload_id: str, *, is_locked: bool = False
) -> Upload:
    """Return one of one's own uploads.

    Raises
    ------
    PageNotFoundError
        There is none.
    """
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
        kind, path = inspect(received, context.decoding)
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
                kind, path = inspect(item.path, context.decoding)
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
    """Return the row of a file that is not taken; what another try can help is raised instead."""
    if error.retryable:
        raise error
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
