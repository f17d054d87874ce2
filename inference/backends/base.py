"""What every engine offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference.heads import Head

Tensor = NDArray[np.float32]


class Backend(Protocol):
    """A loaded model. Safe to use from several threads at once."""

    name: str
    """``openvino`` or ``torch``."""
    resident_bytes: int
    """Memory it holds, roughly, in bytes."""
    head: Head | None
    """The part behind a classifier's feature map, for explanations."""

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Run the network.

        Parameters
        ----------
        batch
            float32 [N, C, H, W] or [N, C, D, H, W]; ``inference.preprocessing.prepare`` makes it.

        Returns
        -------
        tuple
            float32 arrays, as :func:`inference.networks.served` says.
        """
        ...
