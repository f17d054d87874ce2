"""The web app in this process, on a real ledger and spool, with people in it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from dicom_out.profile import STANDARD
from inference.registry import Registry
from ledger.database import transaction
from ledger.store import FolderStore
from scp.config import ListenerConfig
from scp.local_intake import LocalIntake
from viewer_api.accounts import add_user
from viewer_api.app import create_app
from viewer_api.config import WebConfig
from viewer_api.context import WebContext
from viewer_api.decoding import DecodingBudget

PASSWORD = "correct horse battery"
PEOPLE = {"anna": "staff", "rosa": "radiologist", "adam": "administrator"}


def make_context(database: Engine, folder: Path, **changes: object) -> WebContext:
    scp = ListenerConfig(disk_reserve_bytes=0)
    values: dict[str, object] = {
        "config": WebConfig(),
        "database": database,
        "registry": Registry(),
        "intake": LocalIntake(scp, folder / "spool", database, "web-test"),
        "data_dir": folder,
        "spool_dir": folder / "spool",
        "store": FolderStore(folder),
        "destinations": (),
        "profile_of": lambda _: STANDARD,
        "self_test": lambda _: [],
        "ae_title": "PACSIGHT",
        "version": "0",
        "clock": time.time,
        "decoding": DecodingBudget(1 << 30),
        **changes,
    }
    return WebContext(**values)  # type: ignore[arg-type]


def add_people(context: WebContext) -> None:
    with transaction(context.database) as session:
        for login, role in PEOPLE.items():
            add_user(
                session, login=login, name=login.title(), role=role, password=PASSWORD,
                actor="test", now=context.clock(),
            )  # fmt: skip


class Browser(TestClient):
    """Keeps cookies and sends the CSRF token that the last page held."""

    csrf = ""

    def sign_in(self, login: str, password: str = PASSWORD) -> int:
        page = self.get("/login")
        token = re.search(r'name="form_token" value="(\w+)"', page.text)
        assert token is not None
        answer = self.post(
            "/login",
            data={"login": login, "password": password, "form_token": token[1]},
            follow_redirects=False,
        )
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/").text)
        self.csrf = found[1] if found else ""
        return answer.status_code

    def submit(self, path: str, **fields: object) -> int:
        data = {"csrf_token": self.csrf, **fields}
        return self.post(path, data=data, follow_redirects=False).status_code


@pytest.fixture
def context(sqlite_engine: Engine, tmp_path: Path) -> WebContext:
    return make_context(sqlite_engine, tmp_path)


@pytest.fixture
def browser(context: WebContext) -> Iterator[Callable[..., Browser]]:
    """Return a function that opens a browser, signed in as someone of :data:`PEOPLE` or nobody."""
    with browsers(context) as open_one:
        yield open_one


@pytest.fixture
def browser_at() -> Iterator[Callable[[WebContext], Browser]]:
    """Return a function that signs an administrator in at an app of its own."""
    with ExitStack() as stack:
        yield lambda context: stack.enter_context(browsers(context))("adam")


@contextmanager
def browsers(context: WebContext) -> Iterator[Callable[..., Browser]]:
    add_people(context)
    app = create_app(context)
    opened: list[Browser] = []

    def open_one(login: str | None = None, **options: object) -> Browser:
        headers = {"accept": "text/html"}
        one = Browser(app, headers=headers, **options)  # type: ignore[arg-type]
        if not opened:
            one.__enter__()
        opened.append(one)
        if login is not None:
            assert one.sign_in(login) == 303
        return one

    yield open_one
    if opened:
        opened[0].__exit__(None, None, None)
