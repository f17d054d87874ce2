"""The Kubernetes manifests agree with each other, with the image and with the code.

No cluster is needed: everything is read and compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pacsight.cli import app
from pacsight.settings import Settings, load_settings, variable_names
from pacsight.supervisor import STOP_PATIENCE_S
from pacsight.worker import QUEUES
from tests.test_compose import _resolve, dockerfile

FILE = Path(__file__).parents[1] / "deploy" / "kubernetes" / "pacsight.yaml"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
SECRETS = "/run/secrets/pacsight"


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in OBJECTS if item["kind"] == kind}


SETS = of("StatefulSet") | of("Deployment")
CONFIG: dict[str, str] = of("ConfigMap")["pacsight"]["data"]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in SETS.items():
        yield name, item["spec"]["template"]["spec"]


CONTAINERS = [
    pytest.param(pod, container, id=f"{name}/{container['name']}")
    for name, pod in pods()
    for container in pod["containers"]
]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name, value in CONFIG.items():
        monkeypatch.setenv(name, value.replace(SECRETS, str(tmp_path)))
    for name in _secret_files():
        (tmp_path / name).write_text(f"the {name}\n")
    monkeypatch.chdir(tmp_path)
    return load_settings()


def _secret_files() -> set[str]:
    return {value.rsplit("/", 1)[1] for value in CONFIG.values() if value.startswith("file:")}


def test_settings_load_and_need_no_shared_folder(settings: Settings) -> None:
    assert settings.database_url is not None
    assert settings.database_url.startswith("postgresql://")
    assert settings.object_store_url is not None
    assert settings.object_store_url.startswith("s3://")
    ours = {name for name in CONFIG if name.startswith("PACSIGHT_")}
    assert ours <= set(variable_names())


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_command_exists_and_has_settings(pod: dict[str, Any], container: dict[str, Any]) -> None:
    _resolve(typer.main.get_command(app), list(container["args"]))
    assert container["envFrom"] == [{"configMapRef": {"name": "pacsight"}}]
    assert {item["name"] for item in container.get("env", [])} <= set(variable_names())
    if "--queues" in container["args"]:
        queues = container["args"][container["args"].index("--queues") + 1].split(",")
        assert set(queues) <= set(QUEUES)


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_container_has_the_least_privilege(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    uid = str(pod["securityContext"]["runAsUser"])
    assert str(pod["securityContext"]["runAsGroup"]) == uid
    assert any(f"--uid {uid}" in line for line in dockerfile("RUN"))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_data_folder_is_mounted_where_the_image_has_it(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    paths = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert paths == {dockerfile("VOLUME")[0]: "data", "/tmp": "tmp", SECRETS: "secrets"}
    assert all(
        mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] == "secrets"
    )
    (secret,) = (volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets")
    assert secret == {"secretName": "pacsight", "defaultMode": 0o440}


@pytest.mark.parametrize("name", ["pacsight-scp", "pacsight-web"])
def test_who_receives_has_a_lasting_disk_and_a_worker_that_reads_it(name: str) -> None:
    spec = SETS[name]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    args = [container["args"] for container in spec["template"]["spec"]["containers"]]
    assert ["worker", "--queues", "intake"] in args


def test_every_queue_is_served() -> None:
    served = {
        queue
        for _, pod in pods()
        for container in pod["containers"]
        if "--queues" in container["args"]
        for queue in container["args"][2].split(",")
    }
    assert served == set(QUEUES)


def test_services_lead_to_pods_and_ports_that_are_listened_on(settings: Settings) -> None:
    for name, service in of("Service").items():
        selector = service["spec"]["selector"]
        template = SETS[name]["spec"]["template"]
        assert selector == template["metadata"]["labels"]
        assert SETS[name]["spec"]["selector"]["matchLabels"] == selector
        named = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(named)
        if name == "pacsight-scp":
            assert named["dicom"] == settings.scp.port
            assert service["spec"]["externalTrafficPolicy"] == "Local"


def test_secrets_come_from_files_and_none_is_in_this_one(settings: Settings) -> None:
    assert "Secret" not in {item["kind"] for item in OBJECTS}
    assert not [
        name
        for name in CONFIG
        if re.search("PASSWORD|KEY|SECRET", name) and CONFIG[name][:5] != "file:"
    ]
    assert all(f"--from-file={name}" in FILE.read_text() for name in _secret_files())
    assert (
        settings.ledger_url == "postgresql://pacsight:the database-password@postgres:5432/pacsight"
    )
    assert settings.object_store_key is not None
    assert settings.object_store_key.get_secret_value() == "the s3-key"


def test_pods_get_the_time_they_need_to_stop() -> None:
    for _, pod in pods():
        assert pod["terminationGracePeriodSeconds"] > STOP_PATIENCE_S


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_probes_ask_ports_that_the_settings_open(
    pod: dict[str, Any], container: dict[str, Any], settings: Settings
) -> None:
    role = container["args"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    open_ports = {
        "scp": {settings.scp.port, settings.monitoring.scp_port},
        "worker": {settings.monitoring.worker_port},
        "web": {settings.web.port, settings.monitoring.web_port},
    }[role]
    assert set(ports.values()) == open_ports
    assert settings.monitoring.host == "0.0.0.0"
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        assert asked["port"] in ports
    taken = [port["containerPort"] for one in pod["containers"] for port in one["ports"]]
    assert len(taken) == len(set(taken)), "containers of a pod share their ports"
