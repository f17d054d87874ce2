"""Grad-CAM (Selvaraju et al. 2017) from the feature map that the network has given anyway.

For a layer with nothing but the head behind it, differentiating the head alone is exact; no pass
back through the network is needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.heads import Head
from inference.manifest import InputSpec
from inference.preprocessing import place, resize_plane

Map = NDArray[np.float32]


def grad_cam(features: Map, head: Head, channel: int) -> Map:
    """Return the class activation map of a logit, float32 [h, w] in [0, 1].

    Positive evidence only, stretched so that the least is 0 and the most is 1; all 0 if there is
    none.

    Parameters
    ----------
    features
        Last feature map of one image, float32 [F, h, w].
    head
        What lies behind it.
    channel
        The logit to be explained.
    """
    alpha = head.channel_weights(features, channel)
    return _stretch(np.maximum(np.tensordot(alpha, features, axes=1), 0.0))


def to_source_grid(cam: Map, rows: int, columns: int, spec: InputSpec) -> Map:
    """Lay a map over the source image, bilinearly: float32 [rows, columns] in [0, 1].

    Parameters
    ----------
    cam
        [h, w] over the network's whole canvas.
    rows, columns
        Size of the source image.
    spec
        How the image was put on the canvas; with ``letterbox`` the borders are cut off.
    """
    _, height, width = spec.shape
    position = place(rows, columns, spec)
    if (position.height, position.width) != (height, width):
        canvas = resize_plane(cam, (width, height))
        bottom, right = position.top + position.height, position.left + position.width
        cam = canvas[position.top : bottom, position.left : right]
    return _stretch(resize_plane(cam, (columns, rows)))


def _stretch(values: Map) -> Map:
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape, np.float32)
    return ((values - low) / (high - low)).astype(np.float32)
