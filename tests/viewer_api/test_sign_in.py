from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select

from ledger.database import reading
from ledger.tables import Event
from ledger.web_tables import ApiToken, LoginFailure, LoginSession, UserAccount
from tests.viewer_api.conftest import PASSWORD, Browser, make_context
from viewer_api.app import create_app
from viewer_api.config import WebConfig
from viewer_api.context import WebContext
from viewer_api.errors import TooManyAttemptsError
from viewer_api.routes.auth import local_path
from viewer_api.sign_in import AddressLimit

Open = Callable[..., Browser]


def actions(context: WebContext) -> list[tuple[str, str]]:
    with reading(context.database) as session:
        return [(row.actor, row.action) for row in session.scalars(select(Event))]


def test_session_is_new_at_every_sign_in_and_only_its_digest_is_kept(
    browser: Open, context: WebContext
) -> None:
    one = browser()
    one.cookies.set("pacsight", "chosen-by-an-attacker")
    assert one.sign_in("anna") == 303
    first = [value for value in one.cookies.jar if value.name == "pacsight"]
    secrets = {cookie.value for cookie in first} - {"chosen-by-an-attacker"}
    assert len(secrets) == 1
    with reading(context.database) as session:
        stored = session.scalars(select(LoginSession.id)).all()
    assert len(stored) == 1
    assert not secrets & set(stored)
    assert ("anna", "web.signed_in") in actions(context)


def test_old_session_ends_when_the_browser_signs_in_again_or_out(browser: Open) -> None:
    one = browser()
    form = re.search(r'name="form_token" value="(\w+)"', one.get("/login").text)
    assert form is not None
    data = {"login": "anna", "password": PASSWORD, "form_token": form[1]}
    secrets = []
    for _ in range(2):
        assert one.post("/login", data=data, follow_redirects=False).status_code == 303
        secrets.append(one.cookies["pacsight"])
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', one.get("/account").text)
    assert csrf is not None
    assert one.post("/logout", data={"csrf_token": csrf[1]}).status_code == 200
    for secret in secrets:
        stale = browser()
        stale.cookies.set("pacsight", secret)
        assert stale.get("/account", follow_redirects=False).status_code == 303


def test_wrong_login_and_wrong_password_look_alike_and_lock_alike(
    browser: Open, context: WebContext
) -> None:
    answers = {}
    for login in ("anna", "nobody"):
        one = browser()
        texts = []
        for _ in range(context.config.login_attempts + 1):
            page = one.get("/login")
            token = re.search(r'name="form_token" value="(\w+)"', page.text)
            assert token
            data = {"login": login, "password": "wrong password", "form_token": token[1]}
            answer = one.post("/login", data=data)
            texts.append((answer.status_code, re.sub(r'value="\w{64}"', "", answer.text)))
        answers[login] = texts
        assert one.sign_in(login) == 401, "locked, even with the right password"
    assert answers["anna"] == answers["nobody"]
    with reading(context.database) as session:
        locks = session.scalars(select(LoginFailure)).all()
        events = session.scalars(select(Event)).all()
    assert [row.count for row in locks] == [context.config.login_attempts] * 2
    assert "nobody" not in str([(row.actor, row.subject, row.detail) for row in events])


def test_lock_ends_and_the_right_password_clears_the_count(
    context: WebContext, browser: Open
) -> None:
    browser()
    late = replace(context, clock=lambda: context.clock() + 61.0)
    one = browser()
    for _ in range(context.config.login_attempts):
        assert one.sign_in("anna", "wrong password") == 401
    assert one.sign_in("anna") == 401
    assert Browser(create_app(late), headers={"accept": "text/html"}).sign_in("anna") == 303
    with reading(context.database) as session:
        assert session.scalars(select(LoginFailure)).all() == []


def test_sessions_end_by_age_and_by_silence(context: WebContext, browser: Open) -> None:
    one = browser("anna")
    for later in (context.config.session_idle_s + 1, context.config.session_lifetime_s + 1):
        app = create_app(replace(context, clock=lambda s=later: context.clock() + s))
        other = Browser(app, headers={"accept": "text/html"}, cookies=dict(one.cookies))
        assert other.get("/account", follow_redirects=False).status_code == 303


def test_password_change_ends_sessions_elsewhere(browser: Open) -> None:
    here, there = browser("anna"), browser("anna")
    assert here.submit("/account/password", current="not it", new="another long one") == 422
    assert here.submit("/account/password", current=PASSWORD, new="short") == 422
    assert here.submit("/account/password", current=PASSWORD, new="i am anna, really") == 422
    assert here.submit("/account/password", current=PASSWORD, new="another long one") == 200
    assert here.get("/account").status_code == 200
    assert "/login" in str(there.get("/account").url)
    assert browser().sign_in("anna", "another long one") == 303


def test_token_speaks_for_its_owner_within_its_scopes(browser: Open, context: WebContext) -> None:
    adam = browser("adam")
    data = {"csrf_token": adam.csrf, "name": "robot", "days": "1", "scopes": ["read"]}
    page = adam.post("/account/tokens", data=data)
    token = re.search(r'id="token">([^<]+)<', page.text)
    assert token is not None
    assert adam.submit("/account/tokens", name="x", days=1, scopes=["review"]) == 422, "not his own"
    robot = browser()
    robot.headers["authorization"] = f"Bearer {token[1]}"
    assert robot.get("/operations/users").status_code == 403, "not in its scopes"
    assert robot.get("/account").status_code == 403, "people only"
    with reading(context.database) as session:
        row = session.scalars(select(ApiToken)).one()
    data = {"csrf_token": adam.csrf, "name": "chief", "days": "1", "scopes": ["operate"]}
    chief = re.search(r'id="token">([^<]+)<', adam.post("/account/tokens", data=data).text)
    assert chief is not None
    robot.headers["authorization"] = f"Bearer {chief[1]}"
    assert robot.get("/operations").status_code == 200
    taken_over = robot.post(
        "/operations/users/adam", data={"role": "administrator", "password": "x"}
    )
    assert taken_over.status_code == 403, "a token makes no users and no passwords"
    robot.headers["authorization"] = f"Bearer {token[1]}"
    assert token[1] not in (row.digest, row.name)
    assert row.last_used_at is not None
    assert adam.submit(f"/account/tokens/{row.id}/revoke") == 303
    assert robot.get("/account", follow_redirects=False).status_code == 303


def test_last_administrator_stays_and_a_barred_user_is_out_at_once(
    browser: Open, context: WebContext
) -> None:
    adam, anna = browser("adam"), browser("anna")
    assert adam.submit("/operations/users/adam", role="staff", active="true") == 422
    assert adam.submit("/operations/users/anna", role="staff") == 303
    assert anna.get("/account", follow_redirects=False).status_code == 303
    assert browser().sign_in("anna") == 401
    assert (
        adam.submit("/operations/users", login="Bert", role="radiologist", password=PASSWORD) == 303
    )
    assert adam.submit("/operations/users", login="bert", role="staff", password=PASSWORD) == 422
    assert adam.submit("/operations/users", login="../x", role="staff", password=PASSWORD) == 422
    assert browser().sign_in("bert") == 303
    with reading(context.database) as session:
        hashes = session.scalars(select(UserAccount.password_hash)).all()
    assert all(one and one.startswith("$argon2id$") for one in hashes)


def test_cookies_and_headers_behind_tls(context: WebContext, browser: Open) -> None:
    browser()
    config = WebConfig(public_url="https://pacsight.example.org")
    app = create_app(replace(context, config=config))
    one = Browser(app, base_url="https://pacsight.example.org", headers={"accept": "text/html"})
    answer = one.get("/login")
    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
    assert one.sign_in("anna") == 303
    token = re.search(r'form_token" value="(\w+)"', answer.text)
    assert token
    fresh = Browser(app, base_url="https://pacsight.example.org", cookies=dict(one.cookies))
    data = {"login": "anna", "password": PASSWORD, "form_token": token[1]}
    cookie = fresh.post("/login", data=data, follow_redirects=False).headers["set-cookie"]
    assert cookie.startswith("__Host-pacsight=")
    for attribute in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert attribute in cookie
    other = Browser(app, base_url="https://evil.example.org")
    assert other.get("/").status_code == 403, "another host"
    assert other.get("/readyz").status_code == 200, "asked by address, by whoever starts us again"


@pytest.mark.parametrize(
    "path", ["//evil.org", "/\\evil.org", "https://evil.org", "evil", "/a\r\nx: y", "\\\\evil"]
)
def test_going_on_never_leads_to_another_site(path: str) -> None:
    assert local_path(path) == "/"
    assert local_path("/studies/1.2?x=1") == "/studies/1.2?x=1"


def test_one_address_can_try_so_often_a_minute() -> None:
    limit = AddressLimit(3)
    for _ in range(3):
        limit.count("10.0.0.1")
    with pytest.raises(TooManyAttemptsError):
        limit.count("10.0.0.1")
    limit.count("10.0.0.2")


def test_context_helper_makes_what_the_app_takes(sqlite_engine, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert make_context(sqlite_engine, tmp_path).uploads_dir == tmp_path / "uploads"
