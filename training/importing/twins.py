"""The same networks in other libraries, under other names.

A twin defines its layers in the same order as ours, so tensors go over by their place. That is
never taken on trust: every shape has to fit, and both networks have to answer alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from inference.operators import ready_torchvision
from training.importing.tensors import Tensors

TOLERANCE = 1e-3
"""Of how much the answers vary between inputs; seen: 0, and 0.13 for other padding."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A network in another library.

    Attributes
    ----------
    title
        What people call it.
    build
        Makes it, from its number of logits and of input channels.
    last
        Its last layer; trainers like to put a dropout before it, which changes its name.
    surplus
        Beginnings of names that serve training only.
    """

    title: str
    build: Callable[[int, int], torch.nn.Module]
    last: str
    surplus: tuple[str, ...] = ()

    def skeleton(self, outputs: int, channels: int) -> torch.nn.Module:
        """Return it without memory for its weights, for :func:`Tensors` to be put in."""
        with torch.device("meta"):
            return self.build(outputs, channels).eval()


def _torchvision(name: str, outputs: int, channels: int, **options: Any) -> torch.nn.Module:
    ready_torchvision()
    from torchvision import models

    network: torch.nn.Module = models.get_model(name, weights=None, num_classes=outputs, **options)
    if channels != 3:
        place, first = next(
            (place, module)
            for place, module in network.named_modules()
            if isinstance(module, torch.nn.Conv2d)
        )
        other = torch.nn.Conv2d(
            channels,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]  # a tuple of two is what it takes
            first.stride,  # type: ignore[arg-type]  # likewise
            first.padding,  # type: ignore[arg-type]  # likewise
            bias=first.bias is not None,
        )
        network.set_submodule(place, other)
    return network


def _monai_densenet(outputs: int, channels: int) -> torch.nn.Module:
    from monai.networks.nets import DenseNet121

    network: torch.nn.Module = DenseNet121(
        spatial_dims=2, in_channels=channels, out_channels=outputs
    )
    return network


def _of_torchvision(name: str, last: str, **options: Any) -> Twin:
    return Twin(
        f"torchvision's {name}",
        partial(_torchvision, name, **options),
        last,
        ("AuxLogits.",) if name == "inception_v3" else (),
    )


_INCEPTION = {"aux_logits": False, "init_weights": False, "transform_input": False}
TWINS: Mapping[str, tuple[Twin, ...]] = {
    "mobilenetv2": (_of_torchvision("mobilenet_v2", "classifier.1"),),
    "efficientnet-b0": (_of_torchvision("efficientnet_b0", "classifier.1"),),
    "resnet50": (_of_torchvision("resnet50", "fc"),),
    "densenet121": (
        _of_torchvision("densenet121", "classifier"),
        Twin("MONAI's DenseNet121", _monai_densenet, "class_layers.out"),
    ),
    "inception-v3": (_of_torchvision("inception_v3", "fc", **_INCEPTION),),
    "vgg16": (_of_torchvision("vgg16", "classifier.6"),),
}


def difference(
    network: torch.nn.Module, twin: torch.nn.Module, tensors: Tensors, shape: tuple[int, ...]
) -> float:
    """Return how far apart the answers of two networks are, as a part of how much they vary.

    Parameters
    ----------
    network
        Ours, with its weights.
    twin
        A skeleton, filled here with `tensors` under its own names.
    shape
        Of one input.
    """
    filled = {name: tensor.float() for name, tensor in tensors.items()}
    twin.load_state_dict(filled, strict=False, assign=True)
    noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    batch = torch.stack([0.5 * noise[0], 2.0 * noise[1] - 1.0, noise[2].cumsum(-1) / 8.0])
    network.eval()
    with torch.inference_mode():
        ours, theirs = network(batch), twin(batch)
    spread = (theirs.amax(0) - theirs.amin(0)).max()
    least = 0.01 * theirs.abs().max()  # networks that hardly look: rounding is no difference
    return float((ours - theirs).abs().max() / torch.maximum(spread, least))
