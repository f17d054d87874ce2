"""Single sign-on against a real provider in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pacsight.waiting import is_listening
from tests.peers.process import free_port, wait_until
from tests.viewer_api.conftest import Browser
from viewer_api.app import create_app
from viewer_api.config import OidcConfig, WebConfig
from viewer_api.context import WebContext

Open = Callable[..., Browser]
ROLES = {"radiology": "radiologist", "it": "administrator"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: is_listening(port), "the identity provider", timeout_s=60)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture
def sso(context: WebContext, browser: Open, issuer: str) -> Callable[[], Browser]:
    """Return a function that opens a browser at an app that knows the provider."""
    browser()
    oidc = OidcConfig.model_validate(
        {"issuer": issuer, "client_id": "pacsight", "client_secret": "secret", "roles": ROLES}
    )
    app = create_app(replace(context, config=WebConfig(oidc=oidc)))
    return lambda: Browser(app, headers={"accept": "text/html"})


def person(issuer: str, subject: str, claims: dict[str, object]) -> None:
    httpx.put(f"{issuer}/users/{subject}", json=claims).raise_for_status()


def way_back(one: Browser, subject: str) -> str:
    """Leave for the provider, say who one is there, and return the address to come back to."""
    away = one.get("/oidc/login", follow_redirects=False)
    assert away.status_code == 303
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    said = httpx.post(away.headers["location"], data={"sub": subject})
    back = urlsplit(said.headers["location"])
    assert back.path == "/oidc/callback"
    return f"{back.path}?{back.query}"


def test_person_gets_an_account_and_the_role_that_the_provider_gives(
    sso: Callable[[], Browser], issuer: str
) -> None:
    person(issuer, "u1", {"preferred_username": "Mia", "groups": ["radiology"]})
    one = sso()
    assert "Single sign-on" in one.get("/login").text
    answer = one.get(way_back(one, "u1"), follow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert "mia" in one.get("/account").text
    assert one.get("/operations").status_code == 403
    person(issuer, "u1", {"preferred_username": "Mia", "groups": ["it"]})
    two = sso()
    two.get(way_back(two, "u1"))
    assert two.get("/operations").status_code == 200


def test_person_without_a_role_stays_outside(sso: Callable[[], Browser], issuer: str) -> None:
    person(issuer, "u2", {"preferred_username": "Tom", "groups": ["canteen"]})
    one = sso()
    answer = one.get(way_back(one, "u2"))
    assert answer.status_code == 403
    assert "OIDC_ROLE_MISSING" in answer.text
    assert one.get("/account", follow_redirects=False).status_code == 303


def test_login_of_somebody_with_a_password_is_not_taken_over(
    sso: Callable[[], Browser], issuer: str
) -> None:
    person(issuer, "u3", {"preferred_username": "adam", "groups": ["it"]})
    one = sso()
    assert "LOGIN_TAKEN" in one.get(way_back(one, "u3")).text


def test_answers_that_we_did_not_ask_for_are_refused(
    sso: Callable[[], Browser], issuer: str
) -> None:
    person(issuer, "u4", {"preferred_username": "eve", "groups": ["it"]})
    one, victim = sso(), sso()
    back = way_back(one, "u4")
    assert victim.get(back).status_code == 401, "begun in another browser"
    way_back(victim, "u4")
    assert victim.get(back).status_code == 401, "of another attempt: wrong state"
    assert one.get("/oidc/callback?error=access_denied&state=x").status_code == 401
    assert one.get(back, follow_redirects=False).status_code == 303
    assert one.get(back).status_code == 401, "a code counts once"


def test_without_a_provider_there_is_no_such_page(browser: Open) -> None:
    assert browser().get("/oidc/login").status_code == 404
