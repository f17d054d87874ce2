"""The part of a network behind its last feature map: all that Grad-CAM has to differentiate."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.network_table import NETWORKS
from inference.registry import ModelPackage
from inference.weights import load_weights, read_tensors


class Head(Protocol):
    """Gives the gradient of a logit by the feature map, averaged over the map."""

    def channel_weights(self, features: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        """Return Grad-CAM's alpha, float32 [F]: mean over space of d logit / d feature.

        Parameters
        ----------
        features
            float32 [F, h, w] of one image.
        channel
            The logit to be explained.
        """
        ...


class LinearHead:
    """Global average pooling and one linear layer: the gradient is its weight over h * w, always.

    Parameters
    ----------
    weight
        float32 [K, F].
    """

    def __init__(self, weight: NDArray[np.float32]) -> None:
        self._weight = weight

    def channel_weights(self, features: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        """See :class:`Head`."""
        return self._weight[channel] / np.float32(features.shape[1] * features.shape[2])


class AutogradHead:
    """Any other head, differentiated by torch; built when it is first needed."""

    def __init__(self, package: ModelPackage) -> None:
        self._package = package
        self._network: object | None = None
        self._lock = threading.Lock()

    def channel_weights(self, features: NDArray[np.float32], channel: int) -> NDArray[np.float32]:
        """See :class:`Head`."""
        import torch

        from inference.networks import build_manifest_network

        with self._lock:
            if self._network is None:
                network = build_manifest_network(self._package.manifest).eval()
                load_weights(network, self._package.weights)
                self._network = network.requires_grad_(False)
        maps = torch.from_numpy(np.array(features[np.newaxis])).requires_grad_(True)
        with torch.enable_grad():
            logit = self._network.forward_head(maps)[0, channel]  # type: ignore[attr-defined]  # timm
            (gradient,) = torch.autograd.grad(logit, maps)
        return np.asarray(gradient[0].mean(dim=(1, 2)).numpy(), np.float32)


def open_head(package: ModelPackage) -> Head | None:
    """Return the head of a classifier or detector, the quick kind where its network allows it."""
    entry = NETWORKS[package.manifest.network.name]
    if entry.kind not in {"classifier", "detector"}:
        return None
    prefix = entry.linear_head
    if prefix is None:
        return AutogradHead(package)
    name = f"{prefix}.weight"
    weight = read_tensors(package.weights, (name,))[name]
    return LinearHead(weight.reshape(len(weight), -1))  # a detector's is a 1 x 1 convolution
