"""Engines that run a model: one interface, chosen by settings."""

from __future__ import annotations

from pathlib import Path

from inference.backends.base import Backend
from inference.config import InferenceConfig
from inference.network_table import ONNX
from inference.registry import ModelPackage

__all__ = ["Backend", "choose_backend", "open_backend"]

NVIDIA_DEVICES = Path("/proc/driver/nvidia/gpus")


def choose_backend(config: InferenceConfig) -> str:
    """Return ``openvino`` or ``torch``; torch is only imported where a GPU driver is loaded."""
    if config.backend != "auto":
        return config.backend
    if NVIDIA_DEVICES.is_dir() and any(NVIDIA_DEVICES.iterdir()):
        import torch

        if torch.cuda.is_available():
            return "torch"
    return "openvino"


def open_backend(package: ModelPackage, config: InferenceConfig) -> Backend:
    """Load a model into the engine that the settings choose.

    Raises
    ------
    InferenceError
        The weights don't fit, or the engine can't run here.
    """
    engine = choose_backend(config)
    if config.backend == "auto" and package.manifest.network.name == ONNX:
        engine = "openvino"  # the only one that runs graphs
    if engine == "torch":
        from inference.backends.torch_backend import TorchBackend

        return TorchBackend(package, config)
    from inference.backends.openvino_backend import OpenVinoBackend

    return OpenVinoBackend(package, config)
