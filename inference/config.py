"""Settings of inference."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class InferenceConfig(BaseModel):
    """How models are run on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["auto", "openvino", "torch"] = "auto"
    """``auto``: torch where there is a CUDA device, OpenVINO on the CPU otherwise."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of one inference; 0 leaves the choice to the engine."""
    memory_budget_mb: int = Field(default=2048, ge=64)
    """Models kept warm together, in MiB; the least recently used one goes first."""
    cache_dir: Path | None = None
    """Where converted models are kept; without it each start converts them again."""
