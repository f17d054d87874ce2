"""Everything that pages say exists in every language."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from jinja2.ext import babel_extract

from dicom_out import codes
from inference.manifest import Pipeline
from ledger.domain import DeliveryState, JobState
from tests.viewer_api.conftest import Browser
from viewer_api.accounts import ROLES
from viewer_api.model_view import FIGURES
from viewer_api.roles import Permission
from viewer_api.routes.worklist import STATES
from viewer_api.sign_in import FAILED
from viewer_api.translation import LANGUAGES, words

TEMPLATES = Path(__file__).parents[2] / "viewer_api" / "templates"
CHOSEN = {
    *ROLES, *Permission, *STATES, *JobState, *DeliveryState, *get_args(Pipeline), *FIGURES.values(),
    "accepted", "rejected", "comment", FAILED, codes.AREA.meaning, codes.LONG_AXIS.meaning,
}  # fmt: skip
"""Words that templates translate by value."""


def messages() -> set[str]:
    found = set()
    for path in TEMPLATES.glob("*.jinja"):
        with path.open("rb") as file:
            for _, _, said, _ in babel_extract(file, ["_"], [], {"trim_blocks": "true"}):
                first = said if isinstance(said, str) else next(iter(said or ()), None)
                found |= {first} if first else set()
    return found


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_every_message_is_translated_and_none_is_left_over(language: str) -> None:
    catalogue = words(language).messages
    wanted = messages() | {str(one) for one in CHOSEN}
    assert len(wanted) > 200
    assert wanted - set(catalogue) == set()
    assert set(catalogue) - wanted == set()
    holes = re.compile(r"%\(\w+\)s|%%")
    for message, text in catalogue.items():
        assert text, message
        assert sorted(holes.findall(message)) == sorted(holes.findall(text)), message


def test_pages_speak_the_browsers_language_and_the_chosen_one(
    browser: Callable[..., Browser],
) -> None:
    one = browser()
    for header, title in (
        ("de-AT,de;q=0.9", "So geht es"),
        ("vi", "Cách hoạt động"),
        ("fr", "How"),
    ):
        assert title in one.get("/", headers={"accept-language": header}).text
    one.post("/appearance", data={"language": "vi", "theme": "light"})
    text = one.get("/", headers={"accept-language": "de"}).text
    assert '<html lang="vi" data-theme="light">' in text
    assert one.post("/appearance", data={"theme": "x"}).status_code == 422
