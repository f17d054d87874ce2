"""One living process per role and name: what a restart resumes belongs to one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pacsight.errors import AlreadyRunningError, DataFolderError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel frees it however the process ends.

    Raises
    ------
    AlreadyRunningError
        Another process holds it.
    DataFolderError
        Its folder can't be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataFolderError(
            f"The data folder {path.parent} can't be used: {error.strerror}; correct data_dir or "
            "the folder's owner."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"{path.stem} runs already on this data folder; stop it or choose another name."
            ) from error
        yield
    finally:
        os.close(descriptor)
