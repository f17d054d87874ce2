"""Settings of the audit trail: frozen, validated once, passed in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of these settings: unknown keys are errors, values don't change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CollectorConfig(Section):
    """The hospital's audit record repository, spoken to by syslog."""

    host: str = Field(min_length=1)
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    transport: Literal["tls", "tcp"] = "tls"
    ca_file: Path | None = None
    """certificates that vouch for it; default: those that the system trusts"""
    certificate_file: Path | None = None
    """ours, where it asks for one"""
    key_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file need each other")
        return self

    @property
    def name(self) -> str:
        """Return what the ledger calls it."""
        return f"{self.host}:{self.port}"[:128]


class AuditConfig(Section):
    """Who we are in audit messages, and where they go."""

    source_id: str = Field(default="pacsight", min_length=1, max_length=64)
    """Audit Source ID (PS3.15 section A.5.2)"""
    site_id: str = Field(default="", max_length=64)
    """Audit Enterprise Site ID"""
    collector: CollectorConfig | None = None
