"""The networks a manifest may name: an allow-list, readable without torch.

A new architecture is a new row here; nothing else needs to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from inference.errors import NetworkArgumentError, NetworkUnknownError

Argument = str | int | float | bool
Kind = Literal["classifier", "segmenter", "detector"]
"""What a network gives; see :func:`inference.networks.served`."""


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """How a network is built and where its head begins.

    Of a classifier ``forward_features`` gives the last feature map, ``forward_head`` the logits.
    """

    builder_name: str
    """In timm for classifiers; in ``inference.segmenters`` or ``inference.detectors`` else."""
    layer: str = ""
    """Module that gives the last feature map, where that can be explained."""
    linear_head: str | None = None
    """Prefix of the linear layer, if the head is global average pooling and that layer alone."""
    minimum_side: int = 32
    kind: Kind = "classifier"
    arguments: Mapping[str, Mapping[Argument, Mapping[str, object]]] = field(default_factory=dict)
    """Manifest argument -> allowed value -> the builder's arguments."""


_PADDING: Mapping[Argument, Mapping[str, object]] = {
    "torch": {},
    "same": {"pad_type": "same"},  # TensorFlow's SAME: (0, 1, 0, 1) at stride 2 on even sizes
}

NETWORKS: Mapping[str, NetworkEntry] = {
    "mobilenetv2": NetworkEntry(
        "mobilenetv2_100", "bn2", "classifier", arguments={"padding": _PADDING}
    ),
    "efficientnet-b0": NetworkEntry(
        "efficientnet_b0", "bn2", "classifier", arguments={"padding": _PADDING}
    ),
    "resnet50": NetworkEntry("resnet50", "layer4", "fc"),
    "densenet121": NetworkEntry("densenet121", "features", "classifier"),
    "inception-v3": NetworkEntry("inception_v3", "Mixed_7c", "fc", minimum_side=75),
    "vgg16": NetworkEntry("vgg16", "features", None),
}


def find_network(name: str, where: str) -> NetworkEntry:
    """Return the row of `name`; `where` names the model folder in the error.

    Raises
    ------
    NetworkUnknownError
        The name is not on the list.
    """
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(NETWORKS)}."
        raise NetworkUnknownError(
            f"Model folder {where!r}: network {name!r} is not on the list; {hint}"
        )
    return NETWORKS[name]


def check_network(name: str, args: Mapping[str, Argument], where: str) -> dict[str, object]:
    """Return the builder's arguments for a manifest's `args`.

    Raises
    ------
    NetworkUnknownError
        The name is not on the list.
    NetworkArgumentError
        The network has no such argument, or not with this value.
    """
    entry = find_network(name, where)
    chosen: dict[str, object] = {}
    for key, value in args.items():
        if value not in entry.arguments.get(key, {}):
            known = [f"{k}={v}" for k, values in entry.arguments.items() for v in values]
            raise NetworkArgumentError(
                f"Model folder {where!r}: network {name} has no argument {key}={value}; "
                f"it knows {', '.join(known) or 'none'}."
            )
        chosen.update(entry.arguments[key][value])
    return chosen


def head_layer(name: str) -> str:
    """Return the layer whose output is the last feature map of network `name`."""
    return NETWORKS[name].layer
