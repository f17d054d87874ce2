"""One image to boxes on it, a finding for each kind of object, and a heatmap."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from inference.backends import Backend
from inference.boxes import Boxes, best_of_each, to_source
from inference.errors import BackendError
from inference.explain import grad_cam, to_source_grid
from inference.manifest import Manifest, Output
from inference.preprocessing import prepare
from inference.probabilities import calibrate, explained_output, findings_of
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from ledger.domain import Box, Finding, Heatmap, Prediction

LEAST_SCORE = 0.02
"""Of a box, whatever the threshold; those with less don't vote on where the edges are either."""


def detect(package: ModelPackage, backend: Backend, image: SourceImage) -> Prediction:
    """Return the boxes that reach their threshold, best first, in pixels of the image.

    A finding's probability is that of its best box, which may lie under the threshold. The heatmap,
    float32 [rows, columns] of the image, shows where the leading class was seen.

    Raises
    ------
    BackendError
        The network gives values that are no numbers.
    """
    manifest = package.manifest
    started = time.perf_counter()
    tensor = prepare(image.array, manifest.input)
    logits, boxes, features = backend.run(tensor[np.newaxis])
    if not (np.isfinite(logits).all() and np.isfinite(boxes).all()):
        raise BackendError(f"Model {manifest.id!r} gave a value that is not a number.")
    located = to_source(boxes[0].astype(np.float64), image.rows, image.columns, manifest.input)
    has_area = np.all(located[:, 2:] - located[:, :2] >= 1.0, axis=1, keepdims=True)
    scores = calibrate(logits[0], manifest) * has_area
    findings = findings_of(scores.max(axis=0), manifest)
    found = [
        box
        for output in manifest.outputs
        for box in _boxes(output, located, scores[:, output.channel])
    ]
    return Prediction(
        model=package.identity,
        sop_instance_uids=(image.facts.sop_instance_uid,),
        findings=findings,
        heatmap=_explain(features[0], findings, backend, image, manifest),
        seconds=time.perf_counter() - started,
        boxes=tuple(sorted(found, key=lambda box: -box.score)),
    )


def _boxes(output: Output, located: Boxes, scores: NDArray[np.float64]) -> list[Box]:
    """Return the boxes of one class; `scores` is [A]."""
    rows = np.flatnonzero(scores >= LEAST_SCORE)
    boxes, best, _ = best_of_each(located[rows], scores[rows])
    return [
        Box(output.label, output.concept.code, float(score), output.threshold, *map(float, box))
        for box, score in zip(boxes, best, strict=True)
        if score >= output.threshold
    ]


def _explain(
    features: NDArray[np.float32],
    findings: tuple[Finding, ...],
    backend: Backend,
    image: SourceImage,
    manifest: Manifest,
) -> Heatmap | None:
    """Return Grad-CAM of the class's logit, averaged over all places."""
    if manifest.explain is None or backend.head is None:
        return None
    output = explained_output(findings, manifest)
    cam = grad_cam(features, backend.head, output.channel)
    array = to_source_grid(cam, image.rows, image.columns, manifest.input)
    return Heatmap(array=array, label=output.label, layer=manifest.explain.layer)
