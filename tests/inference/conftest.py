"""One small model folder for the whole run: building and converting networks takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.registry import ModelPackage, load_model
from tests.inference.factories import write_model


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A MobileNetV2 for 64 x 64 pixels with random weights; don't write into it."""
    return load_model(write_model(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted models, shared by the tests that don't look at the cache itself."""
    return tmp_path_factory.mktemp("cache")
