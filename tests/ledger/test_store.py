"""The object store: whole or not there, in a folder and by S3 from a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ledger.errors import StoreError, StoreMissingError
from ledger.store import FolderStore, Keys, S3CompatibleStore, Store, open_store
from tests.peers.s3 import S3

FULL = """
import resource, signal, sys
from pathlib import Path
from ledger.errors import StoreError
from ledger.store import FolderStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    FolderStore(Path(sys.argv[1])).put("a.bin", bytes(5000))
except StoreError as error:
    print(error.retryable, error)
"""


@pytest.fixture(
    params=[
        "folder",
        "url",
        pytest.param("s3", marks=pytest.mark.peer),
        pytest.param("s3 with keys", marks=pytest.mark.peer),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return open_store(None, tmp_path)
    if request.param == "url":
        return open_store(f"file://{tmp_path}/shared%20folder", tmp_path / "data")
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    if request.param == "s3":
        return open_store(server.create_bucket(), tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return open_store(server.create_bucket(), tmp_path, Keys("test", "test"))


def test_store_keeps_replaces_and_reads_parts(store: Store) -> None:
    store.put("results/1/1.2.3.dcm", b"one")
    store.put("results/1/1.2.3.dcm", b"0123456789")
    assert store.get("results/1/1.2.3.dcm") == b"0123456789"
    assert store.get("results/1/1.2.3.dcm", offset=2, size=3) == b"234"
    with store.files(["results/1/1.2.3.dcm"]) as (path,):
        assert path.read_bytes() == b"0123456789"
    with pytest.raises(StoreMissingError):
        store.get("results/1/1.2.3.dcm", offset=8, size=5)
    store.put("packs/a/1-2", b"12")
    assert [(one.key, one.size) for one in store.list("packs/")] == [("packs/a/1-2", 2)]
    store.delete(["packs/a/1-2", "packs/a/3-4"])
    assert list(store.list("packs/")) == []
    with pytest.raises(StoreMissingError, match="replay"):
        store.get("results/1/1.2.4.dcm")


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../../b", "a//b", "a/.b", "a\0b", "a b"])
def test_key_that_leads_elsewhere_is_refused(key: str, tmp_path: Path) -> None:
    for store in (FolderStore(tmp_path), S3CompatibleStore("s3://bucket")):
        with pytest.raises(StoreMissingError):
            store.put(key, b"")
        with pytest.raises(StoreMissingError):
            store.get(key)


@pytest.mark.parametrize("url", ["http://x/y", "s3://", "file://host/x", "folder"])
def test_url_of_another_kind_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="s3://"):
        open_store(url, tmp_path)


def test_service_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(StoreError) as caught:
        S3CompatibleStore("s3://bucket").put("a", b"")
    assert caught.value.retryable


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put("new/a.bin", b"one")
    store.put("new/a.bin", b"two")
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_disk_that_takes_no_more_is_tried_again_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True A file can't be written")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="make space"):
        FolderStore(tmp_path).put("file/a.bin", b"")
