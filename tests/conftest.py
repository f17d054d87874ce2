"""Fixtures that every folder uses: databases and real peers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from ledger.database import migrate, open_database
from pacsight.settings import CONFIG_VARIABLE
from tests.peers import process
from tests.peers.dcmtk import dcmtk as run_dcmtk
from tests.peers.orthanc import Orthanc
from tests.peers.postgres import Postgres
from tests.peers.s3 import S3

# Before numpy and torch start their threads, which in small tests and beside each other only spin:
# a third of the CPU of tests/inference/test_explain.py. Processes that tests start inherit it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# A busy machine is no failure, and CI tries the same examples every time.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=process.in_ci(),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("here")


@pytest.fixture(autouse=True)
def no_settings_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the file that ``--config`` named when a test ran the program in this process."""
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Call it for a TCP port on 127.0.0.1 that is this test's own."""
    return process.free_port


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database on a real server."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real server that speaks S3."""
    server = S3(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.peer)])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database; the test runs once on each kind."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty ledger to copy: migrating costs more than most tests."""
    path = tmp_path_factory.mktemp("template") / "ledger.sqlite"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: Postgres) -> str:
    """Name of a migrated, empty database to copy."""
    url = postgres_server.create_database()
    _migrate(url)
    return url.rsplit("/", 1)[1]


def _migrate(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    engine.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url: str, migrated_sqlite: Path) -> Iterator[Engine]:
    """A migrated ledger on SQLite."""
    shutil.copy(migrated_sqlite, sqlite_url.removeprefix("sqlite:///"))
    engine = open_database(sqlite_url)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(postgres_server: Postgres, migrated_postgres: str) -> Iterator[Engine]:
    """A migrated ledger on PostgreSQL."""
    url = postgres_server.create_database(template=migrated_postgres)
    engine = open_database(url)
    yield engine
    engine.dispose()
    postgres_server.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.peer)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """A migrated ledger; the test runs once on each kind of database."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


@pytest.fixture
def dcmtk() -> Callable[..., str]:
    """``dcmtk("storescu", *arguments)`` runs the program and returns its output."""
    return run_dcmtk


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """``start_orthanc(PACSIGHT_PORT="…")`` starts a PACS of its own with these variables."""
    started: list[Orthanc] = []

    def start(**variables: str) -> Orthanc:
        peer = Orthanc(tmp_path / f"orthanc-{len(started)}", variables)
        started.append(peer)
        peer.start()
        return peer

    yield start
    for peer in started:
        peer.close()


@pytest.fixture
def orthanc(start_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """A real PACS that forwards nothing."""
    return start_orthanc()
