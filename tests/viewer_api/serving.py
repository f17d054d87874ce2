"""The web app on a real port, and what programs need to speak with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from sqlalchemy import Engine

from ledger.database import transaction
from tests.peers.process import free_port, wait_until
from viewer_api.accounts import ROLES, find_user
from viewer_api.app import create_app
from viewer_api.context import WebContext
from viewer_api.roles import PERMISSIONS, Principal
from viewer_api.sessions import make_token


@contextmanager
def serving(context: WebContext) -> Iterator[str]:
    """Serve; yield the address."""
    port = free_port()
    config = uvicorn.Config(
        create_app(context), port=port, log_level="warning", lifespan="on", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the web app")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def token_of(database: Engine, login: str, *scopes: str) -> str:
    """Return an API token of somebody."""
    with transaction(database) as session:
        user = find_user(session, login)
        role = next(role for role in ROLES if role == user.role)
        owner = Principal(user.id, login, login, role, PERMISSIONS[role])
        return make_token(session, owner, name="test", scopes=scopes, days=1, now=time.time())
