"""From a network's name to a torch module. Importing this module doesn't import torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from inference.errors import BackendError, ManifestInvalidError
from inference.manifest import InputSpec, Manifest, NetworkRef
from inference.network_table import NETWORKS, NetworkEntry, check_network, find_network
from inference.operators import ready_torchvision

if TYPE_CHECKING:
    import torch

_building = threading.Lock()


def build_network(ref: NetworkRef, input_spec: InputSpec, where: str = "") -> torch.nn.Module:
    """Build a network with random weights, in training mode.

    Parameters
    ----------
    ref
        Its name, number of logits and arguments.
    input_spec
        Channels, rows and columns of its input.
    where
        The model folder's name, for error messages.

    Returns
    -------
    torch.nn.Module
        Of a classifier a timm module: ``forward_features`` turns [N, C, H, W] into the last feature
        map [N, F, h, w], ``forward_head`` turns that into logits [N, K]; calling it does both.
        Of others a module that gives what :func:`served` says.

    Raises
    ------
    ModelPackageError
        The network is not on the list, has no such argument or needs a larger input.
    BackendError
        The network is a graph that only OpenVINO runs.
    """
    entry = find_network(ref.name, where)
    options = check_network(ref.name, ref.args, where)
    if entry.kind == "graph":
        raise BackendError(
            f"Model {where!r} is an ONNX graph and runs in OpenVINO only; "
            "set inference.backend to openvino or auto."
        )
    channels, *sides = input_spec.shape
    if min(sides) < entry.minimum_side:
        raise ManifestInvalidError(
            f"Model folder {where!r}: input.shape of {ref.name} needs at least "
            f"{entry.minimum_side} rows and columns."
        )
    ready_torchvision()
    with _building:  # timm's layer configuration is global
        try:
            module = _builder(entry)(ref.channels, channels, options)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ManifestInvalidError(
                f"Model folder {where!r}: no {ref.name} can be built with these network.args "
                f"({error})."
            ) from error
    return cast("torch.nn.Module", module)


def _builder(entry: NetworkEntry) -> Callable[[int, int, dict[str, Any]], Any]:
    """Return what makes the network from its logits, input channels and options."""
    if entry.kind == "segmenter":
        from inference.segmenters_imported import IMPORTED_SEGMENTERS

        if entry.builder_name in IMPORTED_SEGMENTERS:
            return IMPORTED_SEGMENTERS[entry.builder_name]
        from inference.segmenters import SEGMENTERS

        return SEGMENTERS[entry.builder_name]
    if entry.kind == "detector":
        from inference.detectors import DETECTORS

        return DETECTORS[entry.builder_name]

    def classifier(outputs: int, channels: int, options: dict[str, Any]) -> Any:
        import timm

        return timm.create_model(
            entry.builder_name,
            pretrained=False,
            num_classes=outputs,
            in_chans=channels,
            **options,
        )

    return classifier


def served(network: torch.nn.Module, name: str) -> torch.nn.Module:
    """Return a module in evaluation mode that gives what engines pass on: a tuple of tensors.

    ``classifier``: logits [N, K] and the last feature map [N, F, h, w]. ``segmenter``: logits
    [N, K, H, W] or [N, K, D, H, W]. ``detector``: logits [N, A, K] and boxes [N, A, 4] (x_min,
    y_min, x_max, y_max in canvas pixels) of A places, and the last feature map.
    """
    import torch

    is_classifier = NETWORKS[name].kind == "classifier"

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
            module: Any = self.network
            if is_classifier:
                features = module.forward_features(batch)
                return module.forward_head(features), features
            given = module(batch)
            return given if isinstance(given, tuple) else (given,)

    return Served().eval()


def build_manifest_network(manifest: Manifest) -> torch.nn.Module:
    """Build the network of a manifest; see :func:`build_network`."""
    return build_network(manifest.network, manifest.input, manifest.id)
