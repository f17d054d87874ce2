"""Pictures as the network's canvases, read once and kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.manifest import InputSpec
from inference.preprocessing import to_canvas
from training.data import Sample
from training.progress import Progress


def load_canvases(
    samples: Sequence[Sample], spec: InputSpec, progress: Progress
) -> NDArray[np.float16]:
    """Read pictures through serving's own reader and preprocessing.

    Returns
    -------
    NDArray[np.float16]
        [N, H, W] for ``color: gray``, [N, H, W, 3] for ``color: rgb``, in [0, 1]. Half precision
        (steps of at most 1/2048 below 1) halves the memory and is finer than 8-bit pictures.

    Raises
    ------
    PictureError
        A picture can't be read; the sentence names it.
    """
    _, height, width = spec.shape
    tail = (3,) if spec.color == "rgb" else ()
    canvases = np.empty((len(samples), height, width, *tail), np.float16)
    with progress.stage("Reading pictures", len(samples)) as advance:
        for index, sample in enumerate(samples):
            canvases[index] = to_canvas(sample.read().array, spec)
            advance()
    return canvases
