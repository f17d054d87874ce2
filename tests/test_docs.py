"""The documentation says what the code does: settings, commands, links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from inference.errors import NotAVolumeError, QualityError
from ledger.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from pacsight.cli import app
from pacsight.settings import Settings, model_in
from scp.config import ListenerConfig
from scp.errors import ReceiveError

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "orthanc/*.md")
    for page in REPOSITORY.glob(pattern)
)


def _settings(model: type[BaseModel], at: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is None or inner is not field.annotation:
            yield f"{at}{name}"
        if inner is not None:
            yield from _settings(inner, f"{at}{name}.")


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`([a-z_.]+)`", " ".join(rows)))
    named |= set(re.findall(r"`(scp\.allowed_peers\.[a-z_]+)`", page))
    assert named == set(_settings(Settings))


def test_every_command_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # a Group
        assert re.search(rf"`pacsight {name}|· `{name}|· {name}", readme), name
        for sub in getattr(command, "commands", {}):
            assert re.search(rf"`pacsight {name}[^`]*\b{sub}\b", readme), f"{name} {sub}"


def test_every_refusal_of_routing_is_explained() -> None:
    modules = ("routing.py", "admission.py", "series_selection.py")
    strings = {
        node.value
        for module in modules
        for node in ast.walk(ast.parse((REPOSITORY / "inference" / module).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    codes = {text for text in strings if re.fullmatch("[A-Z]+(_[A-Z]+)+", text)}
    page = (REPOSITORY / "docs" / "models.md").read_text()
    assert codes
    codes |= {error.code for error in QualityError.__subclasses__()}
    codes |= {error.code for error in (NotAVolumeError, *NotAVolumeError.__subclasses__())}
    assert codes == set(re.findall("`([A-Z]+(?:_[A-Z]+)+)`", page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_conformance_statement_names_what_the_code_answers() -> None:
    page = (REPOSITORY / "docs" / "conformance.md").read_text()
    statuses = {error.status for error in _all_kinds(ReceiveError)}
    table = page.split("## C-STORE responses as SCP")[1].split("##")[0]
    named = {int(text, 16) for text in re.findall(r"\| ([0-9A-F]{4})H \|", table)}
    assert named == statuses | {0x0000}
    assert IMPLEMENTATION_CLASS_UID in page
    assert IMPLEMENTATION_VERSION_NAME in page
    defaults = ListenerConfig()
    assert f"| {defaults.max_pdu_bytes} bytes" in page
    assert f"Associations at a time | {defaults.max_associations}," in page
    assert f"`{defaults.ae_title}`, {defaults.port}" in page


def _all_kinds(error: type[ReceiveError]) -> list[type[ReceiveError]]:
    return [error, *(kind for sub in error.__subclasses__() for kind in _all_kinds(sub))]
