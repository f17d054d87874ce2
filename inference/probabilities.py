"""From logits to calibrated findings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.manifest import Manifest, Output
from ledger.domain import Finding


def calibrate(logits: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float64]:
    """Return probabilities [..., K] of logits [..., K]: temperature and bias, then activation."""
    bias = np.asarray(manifest.calibration.bias or 0.0, np.float64)
    scaled = logits.astype(np.float64) / manifest.calibration.temperature + bias
    if manifest.activation == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scaled)))  # the sigmoid, without overflow
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def findings_of(probabilities: NDArray[np.float64], manifest: Manifest) -> tuple[Finding, ...]:
    """Return the findings of one image, in the manifest's order; `probabilities` is [K]."""
    return tuple(
        Finding(
            label=output.label,
            concept=output.concept.code,
            probability=float(probabilities[output.channel]),
            threshold=output.threshold,
        )
        for output in manifest.outputs
    )


def explained_output(findings: tuple[Finding, ...], manifest: Manifest) -> Output:
    """Return the output to explain: the most probable positive one, or the most probable."""
    pairs = zip(findings, manifest.outputs, strict=True)
    return max(pairs, key=lambda pair: (pair[0].is_positive, pair[0].probability))[1]
