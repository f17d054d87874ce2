"""The JSON API: as it describes itself, and whatever it is asked. The questions come by seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.viewer_api.conftest import add_people
from tests.viewer_api.drawn import xray_png
from tests.viewer_api.serving import serving, token_of
from tests.viewer_api.test_doors import ROUTES
from viewer_api.context import WebContext

CONFORMANCE = [
    not_a_server_error, content_type_conformance, response_headers_conformance,
    response_schema_conformance, status_code_conformance,
]  # fmt: skip
SCOPES = ("read", "upload", "deliver", "review")
DICOMWEB = "^/dicom-web/(studies|series|instances|.*{instance}.*(?<!thumbnail))$"
"""A search for each level, and what can be asked of one instance."""


@pytest.fixture
def site(context: WebContext) -> Iterator[tuple[str, str]]:
    """Return the address of a Pacsight with people in it, and somebody's token."""
    add_people(context)
    with serving(context) as url:
        yield url, token_of(context.database, "rosa", *SCOPES)


def described(url: str) -> Any:
    said = httpx.get(f"{url}/api/v1/openapi.json", trust_env=False).json()
    return schemathesis.openapi.from_dict(said)


def fuzz(
    schema: Any, url: str, token: str, checks: list[Any], mode: GenerationMode, examples: int
) -> int:
    """Ask every operation of a description; return how many there are."""
    count = 0
    with requests.Session() as session:
        session.trust_env = False
        for found in schema.get_all_operations():
            operation = found.ok()

            @settings(
                max_examples=examples, derandomize=True, deadline=None, database=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.call_and_validate(
                    base_url=url, session=session, checks=checks,
                    headers={"authorization": f"Bearer {token}"},
                )  # fmt: skip

            ask()
            count += 1
    return count


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_asked_the_answer_is_as_described(
    site: tuple[str, str], mode: GenerationMode
) -> None:
    url, token = site
    schema = described(url).include(path_regex="^/api/")
    assert fuzz(schema, url, token, CONFORMANCE, mode, 10) == 9


def test_whatever_dicomweb_is_asked_it_does_not_break(site: tuple[str, str]) -> None:
    url, token = site
    schema = described(url).include(path_regex=DICOMWEB, method="GET")
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        assert fuzz(schema, url, token, [not_a_server_error], mode, 12) == 9


def test_dicomweb_is_described_with_what_can_be_asked(site: tuple[str, str]) -> None:
    url, _ = site
    paths = described(url).raw_schema["paths"]
    told = {path for path in paths if path.startswith("/dicom-web/")}
    assert told == {p.replace(":path", "") for _, p, _ in ROUTES if p.startswith("/dicom-web/")}
    studies = {one["name"]: one for one in paths["/dicom-web/studies"]["get"]["parameters"]}
    assert studies["PatientName"]["example"] == "doe*"
    assert "SeriesNumber" not in studies
    series = [one["name"] for one in paths["/dicom-web/series"]["get"]["parameters"]]
    assert {"SeriesNumber", "RequestAttributesSequence.RequestedProcedureID"} <= set(series)


def test_a_program_hands_in_a_picture(
    site: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    url, token = site
    picture = xray_png(tmp_path_factory.mktemp("x") / "x.png").read_bytes()
    with httpx.Client(
        base_url=f"{url}/api/v1", headers={"authorization": f"Bearer {token}"}, trust_env=False
    ) as api:
        assert api.get("/me").json() == {
            "login": "rosa", "role": "radiologist", "permissions": sorted(SCOPES),
        }  # fmt: skip
        upload = api.post("/uploads").json()["id"]
        (file,) = api.put(f"/uploads/{upload}/files?name=x.png", content=picture).json()
        assert file == {"name": "x.png", "kind": "picture", "code": None, "message": None}
        refused = api.post(f"/uploads/{upload}/finish", json={"model": "no-such-model"})
        assert refused.json()["code"] == "INPUT_INVALID"
        assert api.get("/studies?limit=1").json() == {"studies": [], "next": None}
        assert api.get("/studies/1.2.3").json()["code"] == "NOT_FOUND"
        unknown = api.get("/studies", params={"received_from": "yesterday"})
        assert (unknown.status_code, unknown.json()["code"]) == (422, "INPUT_INVALID")
