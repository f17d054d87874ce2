"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.peers import process

ROOT = Path(__file__).parents[1]
PACKAGES = ("pacsight", "viewer_api", "scp", "inference", "dicom_out", "ledger", "training")
MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    if "versions" not in path.parts
)  # fmt: skip
MAX_LINES = 500
MAX_BYTES = 512 * 1024


def tracked() -> list[Path]:
    """Return the files that git knows, or all if this is no checkout."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip("no git checkout")
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_ours_and_typed(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(module.__file__ or "").parent == ROOT / package
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("distribution", ["scp", "inference", "training", "ledger"])
def test_no_stranger_of_the_same_name_is_installed(distribution: str) -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version(distribution)


def test_no_file_speaks_of_the_place_it_was_written_in() -> None:
    # Put together here, so that this file does not name them either.
    places = ["/".join(("", "work", "")), "/".join(("..", "shared")), "/".join(("", "tmp", "plan"))]
    found = [
        f"{name(path)}: {place}"
        for path in tracked()
        for place in places
        if place.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_patient_data_and_no_large_file_is_in_the_repository() -> None:
    large = [
        name(path)
        for path in tracked()
        if path.stat().st_size > MAX_BYTES and not path.is_relative_to(ROOT / "checkpoints")
    ]
    assert large == []
    assert [name(path) for path in tracked() if path.suffix in {".dcm", ".nii", ".gz"}] == []


def test_modules_are_of_a_readable_size_and_named_for_what_they_hold() -> None:
    assert [name(path) for path in MODULES if len(path.read_text().splitlines()) > MAX_LINES] == []
    vague = {"utils", "helpers", "common", "manager", "misc"}
    assert [name(path) for path in MODULES if path.stem in vague] == []


def test_ignored_type_errors_have_a_code_and_a_reason() -> None:
    reasoned = re.compile(r"# type: ignore\[[\w, -]+\]  # \w")
    bare = [
        f"{name(path)}: {line.strip()}"
        for path in MODULES
        for line in path.read_text().splitlines()
        if "type: ignore" in line and not reasoned.search(line)
    ]
    assert bare == []


def test_modules_and_their_public_names_say_what_they_are_for() -> None:
    silent = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        nodes = [tree, *(node for node in tree.body if _is_public(node))]
        silent += [
            f"{name(path)}: {getattr(node, 'name', 'module')}"
            for node in nodes
            if not ast.get_docstring(node)  # type: ignore[arg-type]
        ]
    assert silent == []


def _is_public(node: ast.stmt) -> bool:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return isinstance(node, kinds) and not node.name.startswith("_")


def dependencies() -> list[Requirement]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return [Requirement(text) for text in texts]


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {_normal(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pinned = constraints()
    for requirement in dependencies():
        version = pinned[_normal(requirement.name)]
        assert version in requirement.specifier, requirement
        assert version.local is None, "a local version label exists on one index only"


def test_installed_versions_are_the_pinned_ones() -> None:
    for distribution, version in constraints().items():
        try:
            installed = Version(metadata.version(distribution))
        except metadata.PackageNotFoundError:
            continue  # for another platform
        assert installed.public == version.public, distribution


def test_every_make_target_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    explained = set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
    assert set(phony[1].split()) - explained <= {"peers"}
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert explained == set(re.findall(r"make (\w+)", printed))


def test_make_passes_the_study_on_in_one_piece() -> None:
    printed = subprocess.run(
        ["make", "-n", "demo", "STUDY=my study.dcm"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert 'pacsight demo "my study.dcm"' in printed


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("1", 1), ("", 0)])
def test_peers_that_cannot_be_installed_fail_only_in_ci(ci: str, status: int) -> None:
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "install-peers.sh")],
        env={"PATH": "/nonexistent", "CI": ci}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status
    assert "orthanc" in done.stderr


def test_missing_peer_skips_outside_ci_and_fails_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        process.program("no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        process.program("no-such-program")


def test_scripts_can_be_executed() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "tools" / "install-peers.sh"):
        assert os.access(script, os.X_OK)
        subprocess.run(["/bin/sh", "-n", str(script)], check=True)
