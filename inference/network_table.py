"""The networks a manifest may name: an allow-list, readable without torch.

A new architecture is a new row here; nothing else needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from inference.errors import NetworkArgumentError, NetworkUnknownError

Argument = str | int | float | bool
Kind = Literal["classifier", "segmenter", "detector", "graph"]
"""What a network gives; see :func:`inference.networks.served`. A graph comes with the weights."""
ONNX = "onnx"
"""Name of the network that the weights file itself holds; see :mod:`inference.onnx_graph`."""


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
    """Prefix of the linear layer, if all behind the map is that layer and an average over space."""
    minimum_side: int = 32
    kind: Kind = "classifier"
    arguments: Mapping[str, Mapping[Argument, Mapping[str, object]]] = field(default_factory=dict)
    """Manifest argument -> allowed value -> the builder's arguments."""
    numbers: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Manifest argument -> least and most of a whole number, or of each in ``"16-32-64"``."""


_PADDING: Mapping[Argument, Mapping[str, object]] = {
    "torch": {},
    "same": {"pad_type": "same"},  # TensorFlow's SAME: (0, 1, 0, 1) at stride 2 on even sizes
}


def _words(key: str, *words: str) -> Mapping[Argument, Mapping[str, object]]:
    return {word: {key: word} for word in words}


_DIMS: Mapping[Argument, Mapping[str, object]] = {
    2: {"spatial_dims": 2},
    3: {"spatial_dims": 3},
}
_BIAS: Mapping[Argument, Mapping[str, object]] = {True: {"bias": True}, False: {"bias": False}}

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
    "mobilenetv2-detector": NetworkEntry(
        "mobilenetv2", "tower", "score", kind="detector", arguments={"padding": _PADDING}
    ),
    "pvt-v2-b0-detector": NetworkEntry("pvt-v2-b0", "tower", "score", kind="detector"),
    "unet-2d": NetworkEntry(
        "unet-2d", minimum_side=32, kind="segmenter", numbers={"features": (1, 512)}
    ),
    "unet-3d": NetworkEntry(
        "unet-3d",
        minimum_side=16,
        kind="segmenter",
        numbers={"channels": (1, 512), "blocks": (0, 4)},
    ),
    "mobilenetv2-unet": NetworkEntry(
        "mobilenetv2-unet", kind="segmenter", arguments={"padding": _PADDING}
    ),
    "segformer-b0": NetworkEntry("segformer-b0", kind="segmenter"),
    "wnet": NetworkEntry("wnet", kind="segmenter"),
    # MONAI's networks as others have trained them: see docs/importing.md
    "monai-unet": NetworkEntry(
        "monai-unet",
        minimum_side=8,
        kind="segmenter",
        arguments={
            "dims": _DIMS,
            "norm": _words("norm", "instance", "batch"),
            "act": _words("act", "prelu", "relu", "leakyrelu"),
            "adn_ordering": {
                order.lower(): {"adn_ordering": order} for order in ("NDA", "NA", "DNA")
            },
            "bias": _BIAS,
        },
        numbers={
            "channels": (1, 1024),
            "strides": (1, 4),
            "kernel_size": (1, 7),
            "up_kernel_size": (1, 7),
            "num_res_units": (0, 8),
        },
    ),
    "monai-basic-unet": NetworkEntry(
        "monai-basic-unet",
        minimum_side=16,
        kind="segmenter",
        arguments={
            "dims": _DIMS,
            "norm": _words("norm", "instance", "batch"),
            "upsample": _words("upsample", "deconv", "pixelshuffle", "nontrainable"),
            "bias": _BIAS,
        },
        numbers={"features": (1, 1024)},
    ),
    "monai-segresnet": NetworkEntry(
        "monai-segresnet",
        minimum_side=8,
        kind="segmenter",
        arguments={
            "dims": _DIMS,
            "norm": _words("norm", "instance", "batch"),
            "upsample_mode": _words("upsample_mode", "deconv", "pixelshuffle", "nontrainable"),
        },
        numbers={"init_filters": (1, 256), "blocks_down": (1, 16), "blocks_up": (1, 16)},
    ),
    ONNX: NetworkEntry("", minimum_side=8, kind="graph"),
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
        if key in entry.numbers:
            chosen[key] = _whole_numbers(value, *entry.numbers[key])
            if chosen[key] is not None:
                continue
        elif value in entry.arguments.get(key, {}):
            chosen.update(entry.arguments[key][value])
            continue
        known = [f"{k}={v}" for k, values in entry.arguments.items() for v in values]
        known += [f"{k}={low}..{high}" for k, (low, high) in entry.numbers.items()]
        raise NetworkArgumentError(
            f"Model folder {where!r}: network {name} has no argument {key}={value}; "
            f"it knows {', '.join(known) or 'none'}."
        )
    return chosen


def _whole_numbers(value: Argument, low: int, high: int) -> int | tuple[int, ...] | None:
    """Return a number, or those of ``"16-32-64"``; None if they are none or too many or large."""
    if isinstance(value, str):
        if re.fullmatch(r"\d{1,4}(-\d{1,4}){0,15}", value, re.ASCII) is None:
            return None
        found = tuple(int(part) for part in value.split("-"))
        return found if low <= min(found) and max(found) <= high else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if low <= value <= high else None


def head_layer(name: str) -> str:
    """Return the layer whose output is the last feature map of network `name`."""
    return NETWORKS[name].layer
