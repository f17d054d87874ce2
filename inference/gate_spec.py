"""The part ``gate`` of a manifest: which pictures the model refuses because of how they look."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class GateSpec(BaseModel):
    """Limits fitted on the model's training pictures by ``training.gate``; see ``inference.gate``.

    A picture beyond one of them is refused with a code before inference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str = Field(max_length=255, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors$")
    """What training pictures look like, in the model's folder."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    maximum_distance: float = Field(gt=0.0)
    """From the training pictures."""
    minimum_likeness: float | None = None
    """Log-odds of being like them and not like other pictures; null: nothing to compare with."""
    minimum_sharpness: float
    maximum_black: Share
    """Share of pixels at the lowest display value."""
    maximum_white: Share
    """Share of pixels at the highest display value."""
