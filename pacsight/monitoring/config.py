"""Settings of monitoring: frozen, validated once, passed in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]


def _check_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("write an address such as http://127.0.0.1:4318")
    return value.rstrip("/")


class Section(BaseModel):
    """Base of these settings: unknown keys are errors, values don't change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MonitoringConfig(Section):
    """Where each role answers Prometheus and probes, and where traces go."""

    host: str = "127.0.0.1"
    scp_port: Port | None = None
    """none: not served"""
    worker_port: Port | None = None
    web_port: Port | None = None
    otlp_endpoint: Annotated[str, AfterValidator(_check_url)] | None = None
    """OpenTelemetry collector (OTLP over HTTP); none: no traces leave"""


class LogConfig(Section):
    """How roles log, to standard error."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "warning"
    """of our own packages; ``--verbose`` is info"""
