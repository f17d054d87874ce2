"""docker-compose.yml, Dockerfile and orthanc/ agree with each other and with the code.

No Docker engine is needed: everything is read and compared.
"""

from __future__ import annotations

import ipaddress
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pacsight.cli import app
from pacsight.settings import Settings, load_settings, variable_names

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
ORTHANC: dict[str, Any] = json.loads((ROOT / "orthanc" / "orthanc.json").read_text())
EXAMPLE = dict(
    line.split("=", 1)
    for line in (ROOT / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
ROLES = ("scp", "worker", "web")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolate(text: str, values: dict[str, str]) -> str:
    """Fill in ``${NAME:-default}`` and ``${NAME:?message}`` as Compose and Orthanc do."""
    return VARIABLE.sub(lambda found: values.get(found[1]) or (found[3] or ""), text)


def environment(service: str) -> dict[str, str]:
    filled = {**EXAMPLE, "ORTHANC_PASSWORD": "secret"}
    variables = SERVICES[service].get("environment", {})
    return {name: interpolate(str(value), filled) for name, value in variables.items()}


def dockerfile(instruction: str) -> list[str]:
    return [line.split(None, 1)[1] for line in DOCKERFILE if line.startswith(instruction + " ")]


@pytest.fixture(params=ROLES)
def settings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    """Return what a role of Pacsight makes of its variables: unknown ones are refused."""
    for name in SERVICES[request.param]["secrets"]:
        (tmp_path / name).write_text("from a file\n")
    for name, value in environment(request.param).items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(tmp_path)))
    monkeypatch.chdir(ROOT)
    return load_settings()


def port(service: str, inside: int) -> list[str]:
    return [p for p in SERVICES[service].get("ports", []) if p.rsplit(":", 1)[1] == str(inside)]


def test_every_role_has_settings_that_load(settings: Settings) -> None:
    assert settings.database_url is not None
    assert settings.ledger_url == "postgresql://pacsight:from a file@postgres:5432/pacsight"
    assert str(settings.data_dir) == "/var/lib/pacsight"


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_a_setting(role: str) -> None:
    named = {name for name in environment(role) if name.startswith("PACSIGHT_")}
    named |= {name for line in dockerfile("ENV") for name in re.findall(r"(PACSIGHT_\w+)=", line)}
    assert named
    assert named <= set(variable_names())


def test_results_go_to_orthanc_as_it_is_configured(settings: Settings) -> None:
    (destination,) = settings.destinations
    assert destination.host in SERVICES
    assert destination.port == ORTHANC["DicomPort"]
    assert destination.ae_title == interpolate(ORTHANC["DicomAet"], environment("orthanc"))


def test_orthanc_forwards_to_the_receiver_as_it_is_configured(settings: Settings) -> None:
    variables = environment("orthanc")
    modality = ORTHANC["DicomModalities"][ORTHANC["Pacsight"]["Modality"]]
    assert interpolate(modality["AET"], variables) == settings.scp.ae_title
    assert interpolate(modality["Host"], variables) in SERVICES
    assert SERVICES[interpolate(modality["Host"], variables)]["command"] == ["scp"]
    assert interpolate(modality["Port"], variables) == str(settings.scp.port)
    assert [interpolate(title, variables) for title in ORTHANC["Pacsight"]["ResultAeTitles"]] == [
        settings.scp.ae_title
    ]


def test_receiver_lets_orthanc_and_its_own_health_check_in(settings: Settings) -> None:
    network = ipaddress.ip_network(COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"])
    title = interpolate(ORTHANC["DicomAet"], environment("orthanc"))
    allowed = [
        (peer.ae_title, ipaddress.ip_network(peer.address)) for peer in settings.scp.allowed_peers
    ]
    assert any(name in (title, "*") and network.subnet_of(net) for name, net in allowed)  # type: ignore[arg-type]
    here = ipaddress.ip_address("127.0.0.1")
    assert any(name == "*" and here in net for name, net in allowed)


def test_published_ports_are_those_that_are_listened_on(settings: Settings) -> None:
    assert port("scp", settings.scp.port)
    assert port("orthanc", ORTHANC["DicomPort"])
    assert port("orthanc", ORTHANC["HttpPort"])
    assert port("web", settings.web.port)
    assert dockerfile("EXPOSE") == [f"{settings.scp.port} {settings.web.port}"]
    published = [p for service in SERVICES.values() for p in service.get("ports", [])]
    assert len(published) == 4
    asked = {
        role: re.findall(r"127\.0\.0\.1:(\d+)/readyz", SERVICES[role]["healthcheck"]["test"][-1])
        for role in ROLES
    }
    assert asked == {
        "scp": [str(settings.monitoring.scp_port)],
        "worker": [str(settings.monitoring.worker_port)],
        "web": [str(settings.web.port)],
    }


def test_every_variable_of_orthanc_json_is_set_or_has_a_default() -> None:
    text = json.dumps(ORTHANC)
    used = {found[1] for found in VARIABLE.finditer(text)}
    assert all(found[2] == "-" for found in VARIABLE.finditer(text))
    own = {name for name in environment("orthanc") if name.startswith("FORWARD")}
    assert own <= used


def test_variables_are_explained_or_have_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for found in VARIABLE.finditer(text):
        assert found[2] == "-" or found[1] in EXAMPLE, found[0]


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secrets = [found for found in VARIABLE.finditer(text) if "PASSWORD" in found[1]]
    assert {found[1] for found in secrets} == {"ORTHANC_PASSWORD"}
    assert {found[2] for found in secrets} == {"?"}
    assert all(EXAMPLE[found[1]] == "" for found in secrets)
    given = re.findall(r"(?i)password\w*: +(\S+)", text)
    assert all(value.startswith(("${", "/run/secrets/", "file:/run/secrets/")) for value in given)
    assert {".env", "secrets"} <= set((ROOT / ".dockerignore").read_text().split())
    assert {".env", "/secrets/"} <= set((ROOT / ".gitignore").read_text().split())


@pytest.mark.parametrize("role", ROLES)
def test_every_command_exists(role: str) -> None:
    program = typer.main.get_command(app)
    assert dockerfile("ENTRYPOINT") == ['["pacsight"]']
    commands = [SERVICES[role]["command"], json.loads(dockerfile("CMD")[-1])]
    health_check = SERVICES[role]["healthcheck"]["test"][1:]
    if health_check[0] == "pacsight":
        commands.append(health_check[1:])
    for command in commands:
        _resolve(program, list(command))


def _resolve(command: Any, words: list[str]) -> None:
    """Follow sub-commands and check that the last one takes its options."""
    while hasattr(command, "commands"):
        assert words, "a command group alone does nothing"
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_mounted_paths_exist_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).is_file(), source
                assert volume.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]


def test_orthanc_finds_its_scripts_where_they_are_mounted() -> None:
    mounted = {volume.split(":")[1] for volume in SERVICES["orthanc"]["volumes"]}
    assert set(ORTHANC["LuaScripts"]) <= mounted
    assert ORTHANC["StorageDirectory"] in mounted
    assert ORTHANC["IndexDirectory"] in mounted


def test_receiver_and_worker_share_the_spool(settings: Settings) -> None:
    folder = str(settings.data_dir)
    sources = {
        volume.split(":")[0]
        for role in ROLES
        for volume in SERVICES[role]["volumes"]
        if volume.split(":")[1] == folder
    }
    assert sources == {"data"}
    assert all(len(SERVICES[role]["volumes"]) == 1 for role in ROLES)
    assert folder in dockerfile("VOLUME")
    assert any(f"--owner pacsight --mode 750 {folder}" in line for line in dockerfile("RUN"))


@pytest.mark.parametrize("role", ROLES)
def test_containers_have_the_least_privilege(role: str) -> None:
    service = SERVICES[role]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "user"} & set(service)
    assert dockerfile("USER") == ["pacsight"]


def test_the_others_have_no_more_than_they_need() -> None:
    for name in ("postgres", "orthanc"):
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert SERVICES["postgres"]["read_only"] is True


def test_database_password_is_one_file_for_all_who_need_it() -> None:
    for name, service in SERVICES.items():
        needs = name in ROLES or name == "postgres"
        assert service.get("secrets", []) == (["postgres_password"] if needs else [])
    assert COMPOSE["secrets"] == {"postgres_password": {"file": "./secrets/postgres_password"}}
    assert environment("postgres")["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"


def test_services_wait_for_healthy_ones() -> None:
    assert all("healthcheck" in service for service in SERVICES.values())
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in SERVICES
            assert condition == {"condition": "service_healthy"}
    assert "postgres" in SERVICES["scp"]["depends_on"]


def test_image_has_every_package_and_what_the_build_reads() -> None:
    sources = [
        path for line in dockerfile("COPY") if "--from" not in line for path in line.split()[:-1]
    ]
    for path in sources:
        assert (ROOT / path).exists(), path
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    packages = {
        name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    assert packages <= set(sources)
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(sources)


def test_ignored_files_are_not_needed_by_the_build() -> None:
    ignored = set((ROOT / ".dockerignore").read_text().split())
    sources = {path for line in dockerfile("COPY") for path in line.split()[:-1]}
    assert not ignored & sources


def test_image_has_a_python_that_pacsight_runs_on() -> None:
    versions = re.findall(r"FROM python:(\d+)\.(\d+)-slim", "\n".join(DOCKERFILE))
    assert len(versions) == 2
    assert {(int(major), int(minor)) >= (3, 11) for major, minor in versions} == {True}


def test_images_are_pinned() -> None:
    for service in ("postgres", "orthanc"):
        image = interpolate(SERVICES[service]["image"], {})
        assert re.search(r":\d", image), image
