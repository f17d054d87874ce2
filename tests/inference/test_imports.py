from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import inference

HEAVY = {"torch", "torchvision", "timm", "openvino", "monai"}


def test_inference_is_ours() -> None:
    """PyPI has another distribution of this name."""
    root = Path(__file__).parents[2]
    assert Path(inference.__file__ or "").parent == root / "inference"
    assert (root / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    "module",
    ["reading", "routing", "registry", "manifest", "preprocessing", "model_server", "networks"],
)
def test_module_loads_without_the_heavy_libraries(module: str) -> None:
    program = f"import sys, inference.{module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert not HEAVY & set(done.stdout.split())


def test_torchvision_imports_beside_this_torch() -> None:
    program = """
import warnings
warnings.simplefilter("error")
from inference.operators import ready_torchvision
ready_torchvision()
ready_torchvision()
import timm, torchvision
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
