"""What is told of each shipped model, in reports and on its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.registry import ModelPackage, scan_models
from pacsight.model_description import describe_model
from viewer_api.model_view import card_html, figures

SHIPPED = Path(__file__).parents[2] / "checkpoints"


@pytest.mark.parametrize("package", scan_models(SHIPPED).models, ids=lambda one: one.manifest.id)
def test_figures_and_limits_of_every_model_are_told(package: ModelPackage) -> None:
    described = describe_model(package)
    assert "validation images" in dict(described.facts)["Figures"]
    assert described.limits
    assert figures(package)
    assert '<div class="scroll" tabindex="0"><table>' in card_html(package.folder)
