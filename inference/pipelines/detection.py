"""Being written."""

from __future__ import annotations

from inference.backends import Backend
from inference.errors import BackendError
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from ledger.domain import Prediction


def detect(package: ModelPackage, backend: Backend, image: SourceImage) -> Prediction:
    """Run a loaded model."""
    raise BackendError("Not there yet.")
