"""A private service that speaks S3: moto's server, which keeps objects in memory."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from pathlib import Path

import httpx

from tests.peers.process import Process, free_port, missing


class S3:
    """A server; every test takes a bucket of its own."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("moto") is None:
            missing("moto")
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p"]
        self._process = Process([*command, self.url.rsplit(":", 1)[1]], folder / "s3.log")

    def start(self) -> None:
        self._process.start(self._answers, timeout_s=60)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self._process.stop()

    @property
    def variables(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def create_bucket(self) -> str:
        """Return the URL of an empty store."""
        name = f"test-{uuid.uuid4().hex}"
        httpx.put(f"{self.url}/{name}", trust_env=False).raise_for_status()
        return f"s3://{name}/pacsight"
