"""torch: the reference that others are compared with, and the engine for GPUs."""

from __future__ import annotations

import threading

import numpy as np

from inference.backends.base import Tensor
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.heads import open_head
from inference.networks import build_manifest_network, served
from inference.registry import ModelPackage
from inference.weights import load_weights


class TorchBackend:
    """A model in eager torch, on the first GPU if there is one.

    Raises
    ------
    ModelPackageError
        The weights don't fit the network.
    """

    name = "torch"

    def __init__(self, package: ModelPackage, config: InferenceConfig) -> None:
        import torch

        if config.threads:
            torch.set_num_threads(config.threads)
        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa drift from the reference
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = build_manifest_network(package.manifest)
        load_weights(network, package.weights)
        network.requires_grad_(False).to(self._device)
        self._network = served(network, package.manifest.network.name)
        self._lock = threading.Lock()  # one forward pass at a time: memory stays bounded
        self.head = open_head(package)
        # weights, and about as much again for activations and cuDNN's or oneDNN's copies
        self.resident_bytes = 2 * sum(
            tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()
        )

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """See :class:`inference.backends.base.Backend`."""
        import torch

        try:
            with self._lock, torch.inference_mode():
                own = np.require(batch, np.float32, ["C", "W"])  # torch warns of read-only arrays
                tensor = torch.from_numpy(own).to(self._device)
                return tuple(given.float().cpu().numpy() for given in self._network(tensor))
        except RuntimeError as error:  # torch's only kind; out of memory is one of them
            raise BackendError(f"torch failed on {self._device.type}: see the log.") from error
