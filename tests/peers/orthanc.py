"""A private Orthanc, configured by the files in ``orthanc/`` of this repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.peers.process import Process, free_port, missing, program

FOLDER = Path(__file__).parents[2] / "orthanc"
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Ports, folders, plug-ins and the shorter waits of a test differ; the rest is as delivered."""

    ae_title = "ORTHANC"

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        executable = program("Orthanc")
        if not DICOMWEB.exists():
            missing("orthanc-dicomweb")
        folder.mkdir()
        self.dicom_port, self.http_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        config = folder / "orthanc.json"
        config.write_text(json.dumps(self._config(folder)))
        self._process = Process(
            [executable, "--verbose-lua", config],
            folder / "log",
            env={"FORWARD": "no", **variables},
        )
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=30.0)

    def _config(self, folder: Path) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((FOLDER / "orthanc.json").read_text())
        config |= {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "Plugins": [str(DICOMWEB)],
            "LuaScripts": [str(FOLDER / Path(name).name) for name in config["LuaScripts"]],
            "StableAge": 1,
            "LuaHeartBeatPeriod": 1,
        }
        config["Pacsight"] |= {"RetrySeconds": 1}
        return config

    @property
    def log(self) -> str:
        return self._process.log.read_text(errors="replace")

    def start(self) -> None:
        self._process.start(self._is_ready)

    def stop(self) -> None:
        self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()  # nobody needs its data any more; a clean stop takes seconds
        self.http.close()

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/dicom-web/studies").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        """Return the JSON of a GET on the REST API."""
        return self.http.get(path).raise_for_status().json()

    def upload(self, data: bytes) -> str:
        """Store one DICOM file over HTTP and return Orthanc's id of the instance."""
        return str(self.http.post("/instances", content=data).raise_for_status().json()["ID"])

    def instances(self) -> list[dict[str, Any]]:
        """Return all instances with their main tags."""
        return list(self.get("/instances?expand"))

    def dicomweb(self, path: str) -> Any:
        """Return the DICOM JSON of a DICOMweb GET such as ``studies/UID/series``."""
        answer = self.http.get(f"/dicom-web/{path}", headers={"Accept": "application/dicom+json"})
        return answer.raise_for_status().json() if answer.content else []
