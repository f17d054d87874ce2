"""Every route, whoever asks: nobody, a wrong role, another site."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.viewer_api.conftest import PEOPLE, Browser
from viewer_api.access import SAFE_METHODS
from viewer_api.app import create_app
from viewer_api.config import Role
from viewer_api.context import WebContext
from viewer_api.roles import PERMISSIONS, Permission
from viewer_api.routes import ROUTERS

Open = Callable[..., Browser]
OPEN = {
    ("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/login"), ("POST", "/login"),
    ("POST", "/logout"), ("POST", "/appearance"), ("GET", "/oidc/login"), ("GET", "/oidc/callback"),
    ("GET", "/api/v1/openapi.json"),
}  # fmt: skip
"""What nobody needs to sign in for."""


def routes() -> list[tuple[str, str, Permission | None]]:
    """Return method, path and the permission that its door asks for."""
    app = FastAPI()
    found = []
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            doors = list(_permissions(route.dependant))
            assert len(doors) <= 1, route.path
            for method in route.methods:
                found.append((method, route.path, doors[0] if doors else None))
    del app
    return found


def _permissions(dependant):  # type: ignore[no-untyped-def]
    call = dependant.call
    if getattr(call, "__qualname__", "").startswith("require."):
        yield next(
            cell.cell_contents
            for cell in call.__closure__
            if isinstance(cell.cell_contents, Permission)
        )
    for inner in dependant.dependencies:
        yield from _permissions(inner)


ROUTES = routes()


def address(path: str) -> str:
    for name, value in (
        ("{login}", "anna"), ("{uid}", "1.2.3"), ("{model_id}", "x"), ("{name}", "x"),
        ("{upload_id}", "0" * 32), ("{kind}", "x"),
    ):  # fmt: skip
        path = path.replace(name, value)
    return re.sub(r"\{\w+(:path)?\}", "1", path)


def test_every_route_has_a_door_or_is_meant_to_be_open() -> None:
    assert {(method, path) for method, path, door in ROUTES if door is None} <= OPEN
    assert len(ROUTES) > 10


def test_nobody_gets_in_anywhere(browser: Open) -> None:
    one = browser()
    for method, path, door in ROUTES:
        if door is None:
            continue
        page = one.request(method, address(path), follow_redirects=False)
        assert page.status_code == (303 if method == "GET" else 401), (method, path)
        program = one.request(
            method, address(path), follow_redirects=False, headers={"accept": "application/json"}
        )
        assert program.status_code == 401, (method, path)
        assert program.json()["code"] == "SIGN_IN_NEEDED"


@pytest.mark.parametrize("login", PEOPLE)
def test_wrong_role_gets_in_nowhere(browser: Open, login: str) -> None:
    role: Role = PEOPLE[login]  # type: ignore[assignment]
    one = browser(login)
    tried = 0
    for method, path, door in ROUTES:
        if door is None or door in PERMISSIONS[role]:
            continue
        tried += 1
        answer = one.request(method, address(path), headers={"x-csrf-token": one.csrf})
        assert answer.status_code == 403, (method, path)
    assert tried or login == "adam"


def test_changes_need_the_token_of_this_session(browser: Open) -> None:
    adam, anna = browser("adam"), browser("anna")
    for method, path, door in ROUTES:
        if method in SAFE_METHODS or (door is None and path != "/logout"):
            continue
        for token in ("", "x" * 43, anna.csrf):
            answer = adam.request(
                method, address(path), headers={"x-csrf-token": token}, follow_redirects=False
            )
            assert answer.status_code == 403, (method, path)
    assert adam.get("/account").status_code == 200, "still signed in"


def test_changes_from_another_site_are_refused_before_anything_else(browser: Open) -> None:
    one = browser("anna")
    for headers in (
        {"origin": "https://evil.example.org"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = one.post("/logout", data={"csrf_token": one.csrf}, headers=headers)
        assert answer.status_code == 403
    form = {"login": "anna", "password": "x", "form_token": ""}
    assert browser().post("/login", data=form).status_code == 403, "sign-in form of nobody's"


def test_every_answer_has_the_headers(browser: Open) -> None:
    one = browser("adam")
    for path in ("/", "/login", "/account", "/no-such-page", "/static/pacsight.css", "/healthz"):
        headers = one.get(path).headers
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "strict-transport-security" not in headers, "no TLS, no promise"
    assert one.get("/account").headers["cache-control"] == "no-store"
    assert "immutable" in one.get("/static/pacsight.css").headers["cache-control"]


def test_pages_have_nothing_inline(browser: Open) -> None:
    one = browser("adam")
    for path in ("/", "/account", "/operations/users"):
        text = one.get(path).text
        assert "style=" not in text
        assert "<style" not in text
        assert " on" + "click" not in text
        assert "<script>" not in text


def test_search_form_may_be_sent_with_empty_fields(browser: Open) -> None:
    empty = "q=x&state=&modality=&model=&finding=&received_from=&received_until="
    for path in ("/worklist", "/worklist/rows", "/worklist.csv", "/history"):
        assert browser("anna").get(f"{path}?{empty}").status_code == 200


def test_any_day_can_be_searched_for(browser: Open) -> None:
    days = "received_from=0001-01-01&received_until=9999-12-31"
    assert browser("anna").get(f"/worklist?{days}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/instances/{10**20}/pixels",
        f"/worklist?after=1_{10**20}",
        f"/studies/1.2/results/{10**20}.dcm",
    ],
)
def test_numbers_beyond_the_ledger_are_no_defects(browser: Open, path: str) -> None:
    assert browser("anna").get(path).status_code == 422


def test_body_of_a_form_has_an_end_for_strangers(browser: Open) -> None:
    one = browser()
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = one.post("/login", content=bytes(1 << 20), headers={"content-type": kind})
        assert answer.status_code == 413, kind


def test_defect_is_answered_and_logged_without_what_it_says(
    context: WebContext, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_clock() -> float:
        raise ValueError("DOE^JANE")

    one = Browser(create_app(replace(context, clock=broken_clock)), cookies={"pacsight": "x"})
    answer = one.get("/")
    assert answer.status_code == 500
    assert "ValueError" in caplog.text
    assert "DOE" not in caplog.text + answer.text


@pytest.mark.parametrize("next_", ["//[", "/\\[", "//x"])
def test_broken_addresses_are_no_defects(browser: Open, next_: str) -> None:
    one = browser()
    page = one.get("/login", params={"next": next_})
    assert 'name="next" value="/"' in page.text
    assert one.post("/login", headers={"origin": "http://["}).status_code == 403
