"""Shared memory for decoding, one note a visit, whole exports, and uploads that come to nothing."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import func, select

import viewer_api.routes.worklist
from ledger.database import reading
from ledger.tables import Event, Instance, ReceivedObject
from ledger.worklist import refresh_worklist
from pacsight.samples import SamplePatient, ct_series
from scp.indexer import index_received
from tests.viewer_api.conftest import PASSWORD, Browser
from tests.viewer_api.test_uploads import Uploading, dicom, png
from viewer_api.config import OidcConfig
from viewer_api.context import WebContext
from viewer_api.decoding import QUEUE, DecodingBudget
from viewer_api.errors import BusyError, OidcError
from viewer_api.oidc import _claims

Open = Callable[..., Browser]


def test_budget_is_shared_and_who_finds_none_is_told() -> None:
    budget = DecodingBudget(100, patience_s=0.05)
    with budget.hold(60), budget.hold(40):
        _is_refused(budget)
    with budget.hold(1000):  # more than all: alone
        _is_refused(budget)
    with budget.hold(100):
        pass


def _is_refused(budget: DecodingBudget) -> None:
    with pytest.raises(BusyError, match="try again"), budget.hold(1):
        pass


def test_waiting_takes_turns_and_only_some_may_wait() -> None:
    budget = DecodingBudget(1, patience_s=30)
    told: list[str] = []
    waiting = threading.Semaphore(0)

    def ask() -> None:
        waiting.release()
        try:
            with budget.hold(1):
                told.append("served")
        except BusyError:
            told.append("busy")

    threads = [threading.Thread(target=ask) for _ in range(QUEUE + 5)]
    with budget.hold(1):
        for thread in threads:
            thread.start()
        for _ in threads:
            waiting.acquire()
        while told.count("busy") < 5:
            threading.Event().wait(0.01)
    for thread in threads:
        thread.join()
    assert sorted(told) == ["busy"] * 5 + ["served"] * QUEUE


@pytest.fixture
def study(context: WebContext, browser: Open) -> str:
    """A study that was handed in and read; browsers can be opened."""
    uploading = Uploading(browser("anna"))
    uploading.put(dicom())
    (uid,) = uploading.finish()["studies"]
    index_received(context.database, context.spool_dir, now=0.0)
    return str(uid)


def _views(context: WebContext, uid: str) -> int:
    with reading(context.database) as session:
        query = select(func.count()).where(Event.action == "study.viewed", Event.subject == uid)
        return session.scalar(query) or 0


def _pixels(context: WebContext) -> str:
    with reading(context.database) as session:
        return f"/instances/{session.scalar(select(Instance.id))}/pixels"


def test_pixels_wait_for_memory_and_then_say_so(
    context: WebContext, browser: Open, study: str
) -> None:
    rosa, path = browser("rosa"), _pixels(context)
    thumbnail = f"/dicom-web/studies/{study}/thumbnail"
    jpeg = {"accept": "image/jpeg"}
    assert rosa.get(path).status_code == rosa.get(thumbnail, headers=jpeg).status_code == 200
    context.decoding._patience_s = 0.05
    with context.decoding.hold(1 << 40):
        busy = rosa.get(path, headers={"accept": "application/json"})
        assert rosa.get(thumbnail, headers=jpeg).status_code == 503
        uploading = Uploading(rosa)
        assert uploading.code(png()) == "BUSY", "said of this moment, not of the file"
    assert (busy.status_code, busy.json()["code"]) == (503, "BUSY")
    assert rosa.get(path).status_code == 200
    assert uploading.put(png())[0]["kind"] == "picture"


def test_looking_is_noted_once_a_visit(context: WebContext, browser: Open, study: str) -> None:
    rosa, path = browser("rosa"), _pixels(context)
    for _ in range(3):
        assert rosa.get(path).status_code == 200, "without the page: a program, perhaps"
    assert _views(context, study) == 1
    rosa.get(f"/studies/{study}")
    rosa.get(f"/studies/{study}/viewer.json")
    assert _views(context, study) == 1
    browser("adam").get(path)
    assert _views(context, study) == 2, "another person"


def test_export_has_every_row(
    context: WebContext, browser: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_api.routes.worklist, "EXPORT_PAGE", 2)
    anna = browser("anna")
    for seed in range(5):
        uploading = Uploading(anna)
        buffer = io.BytesIO()
        patient = SamplePatient("+1+1^A", "@SUM(A1)")
        ct_series(seed, slices=1, patient=patient)[0].save_as(buffer, enforce_file_format=True)
        uploading.put(buffer.getvalue())
        uploading.finish()
    index_received(context.database, context.spool_dir, now=0.0)
    refresh_worklist(context.database)
    lines = anna.get("/worklist.csv").text.splitlines()
    assert len(lines) == 6
    assert len({line.rsplit(",", 1)[1] for line in lines}) == 6
    assert lines[1].count("'+1+1") == lines[1].count("'@SUM") == 1, "spreadsheets compute nothing"


def test_upload_that_ends_in_quarantine_says_why(context: WebContext, browser: Open) -> None:
    anna = browser("anna")
    uploading = Uploading(anna)
    uploading.put(dicom(), "scan.dcm")
    (uid,) = uploading.finish()["studies"]
    pages = f"/uploads/{uploading.id}/files", f"/studies/{uid}"
    state = f"/studies/{uid}/state"
    assert "scan.dcm" in anna.get(pages[0]).text
    assert anna.get(state).json() == {"state": "expected"}
    with reading(context.database) as session:
        stored = session.scalars(select(ReceivedObject)).one()
    with (context.spool_dir / stored.segment).open("r+b") as file:  # a disk that forgot
        file.seek(stored.offset)
        file.write(bytes(200))
    index_received(context.database, context.spool_dir, now=0.0)
    for page in pages:
        text = anna.get(page).text
        assert "NOT_PART10" in text, page
        assert "data-reload" not in text, "nothing more will happen"
    assert anna.get(state).json() == {"state": "aside"}


def test_password_change_says_what_becomes_of_tokens(browser: Open) -> None:
    adam, password = browser("adam"), "correct horse battery"

    def token() -> dict[str, str]:
        fields = {"csrf_token": adam.csrf, "name": "robot", "days": "1", "scopes": ["read"]}
        text = adam.post("/account/tokens", data=fields).text
        secret = text.split('id="token">')[1].split("<")[0]
        return {"authorization": f"Bearer {secret}"}

    def works(headers: dict[str, str]) -> bool:
        answer = browser().get("/worklist", headers=headers, follow_redirects=False)
        return answer.status_code == 200

    assert "Revoke all my tokens too" in adam.get("/account").text
    kept = token()
    fields = {"current": PASSWORD, "new": password}
    assert adam.submit("/account/password", **fields) == 200
    assert works(kept)
    fields = {"current": password, "new": PASSWORD, "end_tokens": "true"}
    assert adam.submit("/account/password", **fields) == 200
    assert not works(kept)
    last = token()
    assert adam.submit("/operations/users/adam", role="administrator", active="true",
                       password=password) == 303  # fmt: skip
    assert not works(last), "somebody else set it: all tokens end"


# -- OpenID Connect


@pytest.mark.parametrize(
    ("claims", "is_fine"),
    [
        ({"aud": "pacsight"}, True),
        ({"aud": ["pacsight"]}, True),
        ({"aud": "pacsight", "azp": "pacsight"}, True),
        ({"aud": ["pacsight", "other"], "azp": "pacsight"}, True),
        ({"aud": ["pacsight", "other"], "azp": "other"}, False),
        ({"aud": ["pacsight", "other"]}, False),
        ({"aud": "pacsight", "azp": "other"}, False),
    ],
)
def test_token_made_for_another_program_is_refused(claims: dict[str, Any], is_fine: bool) -> None:
    config = OidcConfig.model_validate(
        {"issuer": "https://id.hospital", "client_id": "pacsight", "client_secret": "s"}
    )
    key = RSAKey.generate_key(2048, parameters={"kid": "1"}, private=True)
    everything = {
        "iss": "https://id.hospital", "sub": "u1", "nonce": "n", "exp": 1 << 40, **claims,
    }  # fmt: skip
    token = jwt.encode({"alg": "RS256", "kid": "1"}, everything, key)
    keys = {"keys": [key.as_dict(private=False)]}
    if is_fine:
        assert _claims(config, token, keys, "n")["sub"] == "u1"
    else:
        with pytest.raises(OidcError):
            _claims(config, token, keys, "n")
