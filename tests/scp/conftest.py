"""A running listener and a view on what it received."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from ledger.database import reading
from ledger.tables import Association, ReceivedObject
from scp.config import ListenerConfig
from scp.listener import Listener
from scp.spool import open_object


class Inbox:
    """What the ledger and the spool say about received objects."""

    def __init__(self, engine: Engine, spool: Path) -> None:
        self.engine = engine
        self.spool = spool

    def rows(self) -> list[ReceivedObject]:
        with reading(self.engine) as session:
            return list(session.scalars(select(ReceivedObject).order_by(ReceivedObject.id)))

    def associations(self) -> list[Association]:
        with reading(self.engine) as session:
            return list(session.scalars(select(Association).order_by(Association.id)))

    def file(self, row: ReceivedObject) -> bytes:
        """The whole Part 10 file."""
        with open_object(self.spool, row.segment, row.offset, row.size) as file:
            return file.read()

    def data_set(self, row: ReceivedObject) -> bytes:
        """What the sender sent."""
        data = self.file(row)
        return data[144 + int.from_bytes(data[140:144], "little") :]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def inbox(sqlite_engine: Engine, spool: Path) -> Inbox:
    return Inbox(sqlite_engine, spool)


def configured(**settings: Any) -> ListenerConfig:
    return ListenerConfig(**{"host": "127.0.0.1", "port": 0, "disk_reserve_bytes": 0, **settings})


@pytest.fixture
def start_listener(sqlite_engine: Engine, spool: Path) -> Iterator[Callable[..., Listener]]:
    """``start_listener(idle_timeout_s=1)``; all are stopped at the end, and leave nothing."""
    started: list[Listener] = []
    threads = threading.active_count()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))

    def start(**settings: Any) -> Listener:
        listener = Listener(configured(**settings), spool, sqlite_engine, "test")
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop()
    sqlite_engine.dispose()
    assert threading.active_count() <= threads, threading.enumerate()
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@pytest.fixture
def listener(start_listener: Callable[..., Listener]) -> Listener:
    """A listener with default limits, for senders on this machine."""
    return start_listener()
