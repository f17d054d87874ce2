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
    head: Head
    """The part behind the feature map, for explanations."""

    def predict(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network.

        Parameters
        ----------
        batch
            float32 [N, C, H, W], as ``inference.preprocessing.prepare`` makes it.

        Returns
        -------
        tuple
            Logits [N, K] and the last feature map [N, F, h, w], float32.
        """
        ...
