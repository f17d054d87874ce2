"""The object store: bytes that every machine must reach, by key.

On one machine it is the data folder itself. With several, a URL chooses a shared folder or an
S3-compatible service. A key is a relative path such as ``results/7/1.2.3.dcm``. What is put is
there whole or not at all, and durable when :meth:`Store.put` returns.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from ledger.errors import StoreError, StoreMissingError

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

PATIENCE = timedelta(seconds=20)
KEY = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)*")
"""Names without ``..``, an empty part or a leading dot."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies under a key; size in bytes, time of the last change in seconds since 1970 UTC."""

    key: str
    size: int
    changed_at: float


class Store(Protocol):
    """Puts and gets bytes. Safe for use by many threads and processes."""

    def __hash__(self) -> int: ...

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Make `data` durable under `key`; what was there is replaced.

        Raises
        ------
        StoreError
            It is not stored, or nobody knows; put it again.
        """

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes under `key`, or `size` of them from `offset`.

        Raises
        ------
        StoreMissingError
            Nothing is there, or less than asked for.
        StoreError
            The store can't be reached.
        """

    def files(self, keys: Sequence[str]) -> contextlib.AbstractContextManager[list[Path]]:
        """Give the contents as files that last as long as the context."""

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield what lies under keys that begin with `prefix`, which ends with a slash.

        Raises
        ------
        StoreError
            The store can't be reached.
        """

    def delete(self, keys: Sequence[str]) -> None:
        """Remove what is under keys; what is not there is no error.

        Raises
        ------
        StoreError
            Not all are removed, or nobody knows; delete them again.
        """


class FolderStore:
    """A folder, local or shared, as a store.

    Parameters
    ----------
    folder
        Made when it doesn't exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Write a file beside, sync it, and rename it."""
        path = self._path(key)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise StoreError(
                f"A file can't be written: {error.strerror}. It is tried again; make space."
            ) from error

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file or a part of it."""
        try:
            with self._path(key).open("rb") as file:
                file.seek(offset)
                return _whole(key, file.read(-1 if size is None else size), size)
        except FileNotFoundError as error:
            raise _missing(key) from error
        except OSError as error:
            raise StoreError(f"A stored file can't be read: {error.strerror}.") from error

    @contextmanager
    def files(self, keys: Sequence[str]) -> Iterator[list[Path]]:
        """Yield the files themselves."""
        yield [self._path(key) for key in keys]

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the files below a folder, but for those that are being written."""
        try:
            for path in sorted((self.folder / prefix).rglob("*")):
                key = path.relative_to(self.folder).as_posix()
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = path.stat()
                    if KEY.fullmatch(key) and stat.S_ISREG(status.st_mode):
                        yield Stored(key, status.st_size, status.st_mtime)
        except OSError as error:
            raise StoreError(f"Stored files can't be listed: {error.strerror}.") from error

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files; folders that get empty go as well."""
        try:
            for key in keys:
                path = self._path(key)
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty, or gone
                    if path.parent != self.folder:
                        path.parent.rmdir()
        except OSError as error:
            raise StoreError(f"A stored file can't be removed: {error.strerror}.") from error

    def _path(self, key: str) -> Path:
        _check(key)
        return self.folder / key


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of an S3-compatible service."""

    key_id: str
    key: str = field(repr=False)

    @property
    def config(self) -> S3Config:
        """As obstore calls them."""
        return {"access_key_id": self.key_id, "secret_access_key": self.key}


class S3CompatibleStore:
    """A bucket, or a prefix in it, of a service that speaks S3.

    Region and endpoint come from the usual variables ``AWS_REGION`` and ``AWS_ENDPOINT_URL``, and
    so do credentials that are not given.
    """

    def __init__(self, url: str, keys: Keys | None = None) -> None:
        self._url = url
        self._keys = keys
        self._opened: S3Store | None = None

    def _store(self) -> Any:
        if self._opened is None:
            from obstore.store import S3Store

            is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
            self._opened = S3Store.from_url(
                self._url,
                config=None if self._keys is None else self._keys.config,
                client_options={"allow_http": is_plain, "connect_timeout": "5s"},
                retry_config={"max_retries": 2, "retry_timeout": PATIENCE},
            )
        return self._opened

    def put(self, key: str, data: bytes | bytearray) -> None:
        """Put an object; the service answers when it is durable."""
        import obstore

        _check(key)
        with _translated(key):
            obstore.put(self._store(), key, data)

    def get(self, key: str, offset: int = 0, size: int | None = None) -> bytes:
        """Get an object or a range of it."""
        import obstore

        _check(key)
        with _translated(key):
            if size is None:
                return bytes(obstore.get(self._store(), key).bytes())[offset:]
            got = obstore.get_range(self._store(), key, start=offset, length=size) if size else b""
            return _whole(key, bytes(got), size)

    @contextmanager
    def files(self, keys: Sequence[str]) -> Iterator[list[Path]]:
        """Yield copies in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="pacsight-") as folder:
            paths = [Path(folder) / f"{number}-{Path(key).name}" for number, key in enumerate(keys)]
            for path, key in zip(paths, keys, strict=True):
                path.write_bytes(self.get(key))
            yield paths

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects below a prefix."""
        import obstore

        with _translated(prefix):
            for batch in obstore.list(self._store(), prefix):
                for one in batch:
                    yield Stored(one["path"], one["size"], one["last_modified"].timestamp())

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, many in one request."""
        import obstore

        for key in keys:
            _check(key)
        with contextlib.suppress(StoreMissingError), _translated("what is to be removed"):
            obstore.delete(self._store(), list(keys))


def open_store(url: str | None, data_dir: Path, keys: Keys | None = None) -> Store:
    """Return the store that a URL names; without one the data folder.

    Parameters
    ----------
    url
        ``file:///shared/folder``, ``s3://bucket/prefix``, or None.
    keys
        For S3; None takes those of the environment.

    Raises
    ------
    ValueError
        The URL is of another kind.
    """
    if url is None:
        return FolderStore(data_dir)
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3CompatibleStore(url, keys)
    raise ValueError("write file:///folder or s3://bucket/prefix")


@contextmanager
def _translated(key: str) -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise _missing(key) from error
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(
            f"The object store can't be used ({type(error).__name__}); check its URL and network."
        ) from error


def _check(key: str) -> None:
    if not KEY.fullmatch(key):
        raise StoreMissingError("The ledger names no valid key of the object store.")


def _missing(key: str) -> StoreMissingError:
    return StoreMissingError(f"{key} is not in the store; restore it or replay the study.")


def _whole(key: str, data: bytes, size: int | None) -> bytes:
    if size is not None and len(data) != size:
        raise _missing(key)
    return data


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
