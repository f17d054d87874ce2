"""Segments: slices, reuse, failures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scp.errors import SpoolError, SpoolFullError
from scp.spool import RESERVE_CHECK_BYTES, ObjectWriter, Spool, SpooledObject, open_object

HEADER = b"header"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder, segment_bytes=1 << 20, reserve_bytes=0)
    yield spool
    spool.close()


def buffer(size: int = 64) -> memoryview:
    return memoryview(bytearray(size))


def write(writer: ObjectWriter, data: bytes) -> None:
    while data:
        room = writer.room(len(data))
        count = len(room)
        room[:] = data[:count]
        writer.advance(count)
        data = data[count:]


def put(spool: Spool, data: bytes) -> SpooledObject:
    writer = spool.begin(HEADER, buffer())
    write(writer, data)
    return writer.seal()


def read(folder: Path, item: SpooledObject) -> bytes:
    with open_object(folder, item.segment, item.offset, item.size) as file:
        return file.read()


@pytest.mark.parametrize("size", [0, 1, 57, 58, 59, 64, 1000])
def test_object_comes_back_whatever_its_size(spool: Spool, folder: Path, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    assert read(folder, put(spool, data)) == HEADER + data


def test_objects_follow_each_other_in_one_segment(spool: Spool, folder: Path) -> None:
    one, two = put(spool, b"a" * 100), put(spool, b"b" * 200)
    assert (two.segment, two.offset) == (one.segment, one.size)
    assert read(folder, one) == HEADER + b"a" * 100
    assert read(folder, two) == HEADER + b"b" * 200


def test_objects_in_progress_have_a_segment_each(spool: Spool, folder: Path) -> None:
    writers = [spool.begin(HEADER, buffer()) for _ in range(3)]
    for number, writer in enumerate(writers):
        write(writer, bytes([number]) * 500)
    items = [writer.seal() for writer in writers]
    assert len({item.segment for item in items}) == 3
    assert [read(folder, item)[-1] for item in items] == [0, 1, 2]


def test_discarded_object_is_overwritten_and_its_space_given_back(
    spool: Spool, folder: Path
) -> None:
    kept = put(spool, b"a" * 100)
    writer = spool.begin(HEADER, buffer())
    write(writer, b"x" * 5000)
    writer.discard()
    writer.discard()
    assert (folder / kept.segment).stat().st_size == kept.size
    after = put(spool, b"b")
    assert after.offset == kept.size
    assert read(folder, kept) == HEADER + b"a" * 100


def test_sealed_slice_is_not_reused_though_nobody_committed_it(spool: Spool) -> None:
    one = put(spool, b"a")
    two = put(spool, b"b")
    assert two.offset >= one.offset + one.size


def test_names_differ_between_two_spools_of_one_folder(folder: Path) -> None:
    names = set()
    for _ in range(3):
        spool = Spool(folder, segment_bytes=1 << 20, reserve_bytes=0)
        names.add(put(spool, b"x").segment)
        spool.close()
    assert len(names) == 3


def test_failed_sync_takes_the_segment_out_of_use(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = put(spool, b"good")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    writer = spool.begin(HEADER, buffer())
    write(writer, b"lost")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolError, match="can't be written") as caught:
            writer.seal()
    assert caught.value.status == 0xA700
    assert put(spool, b"next").segment != good.segment
    assert read(folder, good) == HEADER + b"good"


def test_folder_is_synced_after_a_segment_is_created(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    put(spool, b"x")
    put(spool, b"y")
    assert synced == [folder]


def test_data_is_synced_before_it_is_called_sealed(
    spool: Spool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = os.fdatasync

    def note(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    item = put(spool, b"x" * 1000)
    assert sizes == [item.size]


def test_reserve_is_checked_at_the_beginning_and_on_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(folder, segment_bytes=1 << 20, reserve_bytes=0)
    writer = spool.begin(HEADER, buffer(1 << 16))
    monkeypatch.setattr(spool, "_reserve_bytes", 1 << 62)
    write(writer, bytes(RESERVE_CHECK_BYTES - (1 << 16)))
    with pytest.raises(SpoolFullError):
        write(writer, bytes(1 << 17))
    with pytest.raises(SpoolFullError):
        spool.begin(HEADER, buffer())
    monkeypatch.setattr(spool, "_reserve_bytes", 0)
    assert put(spool, b"x").offset == 0
    spool.close()


def test_closed_spool_leaves_only_segments_with_objects(folder: Path) -> None:
    spool = Spool(folder, segment_bytes=1 << 20, reserve_bytes=0)
    kept = spool.begin(HEADER, buffer())
    spool.begin(HEADER, buffer()).discard()
    item = kept.seal()
    spool.close()
    assert [path.name for path in folder.glob("*.seg")] == [item.segment]


def test_unusable_folder_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(SpoolError, match="spool folder can't be used"):
        Spool(file, segment_bytes=1 << 20, reserve_bytes=0)


# -- reading


def test_slice_is_a_seekable_file_of_its_own(spool: Spool, folder: Path) -> None:
    put(spool, b"before")
    item = put(spool, bytes(range(100)))
    put(spool, b"after")
    expected = io.BytesIO(HEADER + bytes(range(100)))
    with open_object(folder, item.segment, item.offset, item.size) as file:
        for offset, whence in [(0, 0), (50, 0), (-10, 2), (5, 1), (200, 0), (0, 2)]:
            assert file.seek(offset, whence) == expected.seek(offset, whence)
            assert file.read(20) == expected.read(20)
        with pytest.raises(ValueError):
            file.seek(-1)
        assert not file.writable()


@pytest.mark.parametrize("name", ["../ledger.sqlite", "/etc/passwd", "", "a.seg/..", "A B.seg"])
def test_other_files_are_not_opened(folder: Path, name: str) -> None:
    with pytest.raises(SpoolError, match="no valid spool segment"):
        open_object(folder, name, 0, 1)


def test_missing_or_short_segment_is_a_clear_error(spool: Spool, folder: Path) -> None:
    with pytest.raises(SpoolError, match="can't be opened"):
        open_object(folder, "1-2-3.seg", 0, 1)
    item = put(spool, b"x")
    with pytest.raises(SpoolError, match="shorter"):
        open_object(folder, item.segment, item.offset, item.size + 1)
