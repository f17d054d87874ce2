"""The state of an unfinished training, so that a stop costs one epoch at most."""

from __future__ import annotations

import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResumeFile:
    """Where the state lies. The name tells recipe, data and start weights apart.

    So a training resumes exactly when all three are the same, and starts anew otherwise.
    """

    path: Path

    @classmethod
    def beside(cls, folder: Path, fingerprint: str) -> ResumeFile:
        """Name the file of the training that will write `folder`."""
        return cls(folder.parent / f".{folder.name}-{fingerprint[:16]}.resume")

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state; a stop in the middle leaves the old one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None if there is none that can be read."""
        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            _log.warning("%s can't be read; training starts anew", self.path.name)
            return None
        assert isinstance(state, dict)
        return state

    def remove(self) -> None:
        """Training is complete; the state is no longer needed."""
        self.path.unlink(missing_ok=True)
