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
from viewer_api.context import WebContext

CONFORMANCE = [
    not_a_server_error, content_type_conformance, response_headers_conformance,
    response_schema_conformance, status_code_conformance,
]  # fmt: skip
SCOPES = ("read", "upload", "deliver", "review")
UIDS = "/dicom-web/studies/{study}/series/{series}/instances/{instance}"
TEXT = {"type": "string"}


@pytest.fixture
def site(context: WebContext) -> Iterator[tuple[str, str]]:
    """Return the address of a Pacsight with people in it, and somebody's token."""
    add_people(context)
    with serving(context) as url:
        yield url, token_of(context.database, "rosa", *SCOPES)


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
    described = httpx.get(f"{url}/api/v1/openapi.json", trust_env=False).json()
    schema = schemathesis.openapi.from_dict(described)
    assert fuzz(schema, url, token, CONFORMANCE, mode, 10) == 9


def test_whatever_dicomweb_is_asked_it_does_not_break(site: tuple[str, str]) -> None:
    url, token = site
    search = {
        "limit": {"type": "integer", "minimum": 0, "maximum": 99},
        "offset": {"type": "integer", "minimum": 0, "maximum": 99},
        "includefield": {"enum": ["all", "00080020", "StudyDate"]},
        "fuzzymatching": {"type": "boolean"},
        "accept": {"enum": ["*/*", "application/json", "application/dicom+json"]},
        "PatientName": TEXT,
        "PatientID": TEXT,
        "StudyDate": {"type": "string", "pattern": "^([0-9]{8})?-?([0-9]{8})?$"},
        "StudyTime": {"type": "string", "pattern": "^([0-9]{0,6})?-?([0-9]{6})?$"},
        "ModalitiesInStudy": {"enum": ["CT", "SR,SEG", "OT"]},
    }
    series = {**search, "SeriesNumber": {"type": "integer"}, "Modality": TEXT}
    view = dict.fromkeys(("window", "viewport", "quality"), TEXT)

    def operation(path: str, asked: dict[str, Any]) -> dict[str, Any]:
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        place = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
        query = [{"name": name, "in": "query", "schema": one} for name, one in asked.items()]
        accept = [{"name": "Accept", "in": "header", "schema": TEXT}]
        return {
            "parameters": place + query + (accept if asked is view else []),
            "responses": {"200": {"description": ""}},
        }

    paths = {
        "/dicom-web/studies": search,
        "/dicom-web/series": series,
        "/dicom-web/studies/{study}/instances": series,
        UIDS: view,
        f"{UIDS}/frames/{{frames}}": view,
        f"{UIDS}/bulkdata/{{path}}": view,
        f"{UIDS}/rendered": view,
    }
    description = {
        "openapi": "3.1.0",
        "info": {"title": "DICOMweb", "version": "1"},
        "paths": {path: {"get": operation(path, asked)} for path, asked in paths.items()},
    }
    schema = schemathesis.openapi.from_dict(description)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        assert fuzz(schema, url, token, [not_a_server_error], mode, 15) == len(paths)


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
