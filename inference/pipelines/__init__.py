"""From an image or a series to a prediction: one module for each kind of model."""

from __future__ import annotations

from typing import assert_never

from inference.backends import Backend
from inference.errors import WrongSourceError
from inference.pipelines.classification import classify
from inference.pipelines.detection import detect
from inference.pipelines.segmentation import segment_image, segment_volume
from inference.registry import ModelPackage
from inference.source_image import SourceImage
from inference.volume import Volume
from ledger.domain import Prediction

Source = SourceImage | Volume


def run_pipeline(package: ModelPackage, backend: Backend, source: Source) -> Prediction:
    """Run a loaded model on what it is meant for.

    Raises
    ------
    InferenceError
        The source is of the other kind, or the model can't answer about it.
    """
    manifest = package.manifest
    if isinstance(source, Volume) != (manifest.input.unit == "series"):
        wanted = "a series" if manifest.input.unit == "series" else "single images"
        raise WrongSourceError(f"Model {manifest.id!r} takes {wanted}; this is something else.")
    match manifest.pipeline:
        case "classification":
            assert isinstance(source, SourceImage)
            return classify(package, backend, source)
        case "detection":
            assert isinstance(source, SourceImage)
            return detect(package, backend, source)
        case "segmentation":
            if isinstance(source, Volume):
                return segment_volume(package, backend, source)
            return segment_image(package, backend, source)
        case _:
            assert_never(manifest.pipeline)
