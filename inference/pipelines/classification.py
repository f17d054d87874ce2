"""One image to calibrated findings and a heatmap of the leading one."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.backends import Backend
from inference.errors import BackendError
from inference.explain import grad_cam, to_source_grid
from inference.manifest import Manifest
from inference.preprocessing import prepare
from inference.probabilities import calibrate, explained_output, findings_of
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from ledger.domain import Finding, Heatmap, Prediction


def classify(package: ModelPackage, backend: Backend, image: SourceImage) -> Prediction:
    """Return the findings of an image.

    The heatmap, float32 [rows, columns] of the image, explains the most probable positive finding,
    or the most probable one if none is positive.

    Raises
    ------
    BackendError
        The network gives values that are no numbers.
    """
    manifest = package.manifest
    started = time.perf_counter()
    findings, features = find(manifest, backend, image)
    return Prediction(
        model=package.identity,
        sop_instance_uids=(image.facts.sop_instance_uid,),
        findings=findings,
        heatmap=_explain(features, findings, backend, image, manifest),
        seconds=time.perf_counter() - started,
    )


def find(
    manifest: Manifest, backend: Backend, image: SourceImage
) -> tuple[tuple[Finding, ...], list[NDArray[np.float32]]]:
    """Return the findings of an image alone, and the feature maps that explain them.

    Raises
    ------
    BackendError
        The network gives values that are no numbers.
    """
    tensor = prepare(image.array, manifest.input)
    logits, *features = backend.run(tensor[np.newaxis])
    if not np.isfinite(logits).all():
        raise BackendError(f"Model {manifest.id!r} gave a value that is not a number.")
    return findings_of(calibrate(logits[0], manifest), manifest), features


def _explain(
    features: Sequence[NDArray[np.float32]],
    findings: tuple[Finding, ...],
    backend: Backend,
    image: SourceImage,
    manifest: Manifest,
) -> Heatmap | None:
    if manifest.explain is None or backend.head is None:
        return None
    output = explained_output(findings, manifest)
    cam = grad_cam(features[0][0], backend.head, output.channel)
    array = to_source_grid(cam, image.rows, image.columns, manifest.input)
    return Heatmap(array=array, label=output.label, layer=manifest.explain.layer)
