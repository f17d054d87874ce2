"""From a network's name to a torch module. Importing this module doesn't import torch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from inference.errors import ManifestInvalidError
from inference.manifest import InputSpec, Manifest, NetworkRef
from inference.network_table import check_network, find_network
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
        A timm module: ``forward_features`` turns [N, C, H, W] into the last feature map
        [N, F, h, w], ``forward_head`` turns that into logits [N, K]; calling it does both.

    Raises
    ------
    ModelPackageError
        The network is not on the list, has no such argument or needs a larger input.
    """
    entry = find_network(ref.name, where)
    options = check_network(ref.name, ref.args, where)
    channels, *sides = input_spec.shape
    if min(sides) < entry.minimum_side:
        raise ManifestInvalidError(
            f"Model folder {where!r}: input.shape of {ref.name} needs at least "
            f"{entry.minimum_side} rows and columns."
        )
    ready_torchvision()
    import timm

    with _building:  # timm's layer configuration is global
        module = timm.create_model(
            entry.timm_name,
            pretrained=False,
            num_classes=ref.channels,
            in_chans=channels,
            **cast(Any, options),
        )
    return cast("torch.nn.Module", module)


def build_manifest_network(manifest: Manifest) -> torch.nn.Module:
    """Build the network of a manifest; see :func:`build_network`."""
    return build_network(manifest.network, manifest.input, manifest.id)
