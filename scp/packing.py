"""Copying objects from a machine's spool into packs that every machine reads.

A pack is what a segment is: Part 10 files end to end, with rows that name slices of it. It holds
what was read in one go, so that a study of a thousand slices costs a few dozen requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.store import Store
from scp.errors import SpoolError
from scp.segments import spool_identity
from scp.spool import PACKS, SpooledObject, open_object

PACK_BYTES = 1 << 26
"""A pack is closed at this size; larger objects have one of their own."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An object whose header is unread: columns of ``received_object``."""

    id: int
    sop_instance_uid: str
    transfer_syntax_uid: str
    segment: str
    offset: int
    size: int


def pack(rows: Sequence[Unread], spool_dir: Path, store: Store) -> dict[int, SpooledObject]:
    """Put the bytes of `rows` into the store and return where each lies then, by row id.

    A key follows from the rows in the pack. Killed before the rows are written, the next run puts a
    pack under the same key, or under one that no row will ever name. An object that can't be read
    stays where it is.

    Raises
    ------
    ledger.errors.StoreError
        The store can't be used; nothing is lost, call again.
    """
    identity = spool_identity(spool_dir)
    places: dict[int, SpooledObject] = {}
    for group in _groups(rows):
        key = f"{PACKS}{identity}/{group[0].id}-{group[-1].id}"
        packed = bytearray()
        for row in group:
            try:
                with open_object(spool_dir, row.segment, row.offset, row.size) as file:
                    data = file.read()
            except (SpoolError, OSError):
                continue  # the indexer has seen the same and says so in the row
            places[row.id] = SpooledObject(key, len(packed), row.size)
            packed += data
        if packed:
            store.put(key, packed)
    return places


def _groups(rows: Sequence[Unread]) -> Iterator[list[Unread]]:
    group: list[Unread] = []
    size = 0
    for row in rows:
        if group and size + row.size > PACK_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += row.size
    if group:
        yield group
