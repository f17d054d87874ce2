"""Models in memory: loaded once, kept warm, within a budget."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

import numpy as np

from inference.backends import Backend, open_backend
from inference.config import InferenceConfig
from inference.errors import BackendError, ImageTooSmallError
from inference.explain import grad_cam, to_source_grid
from inference.manifest import Manifest
from inference.preprocessing import prepare
from inference.probabilities import calibrate, explained_output, findings_of
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from ledger.domain import Finding, Heatmap, Prediction

_log = logging.getLogger(__name__)


class ModelServer:
    """Runs the models of a registry. Safe to use from several threads.

    A model is loaded when it is first asked for, once, even if several threads ask. When the loaded
    ones pass the memory budget, those that were not used for longest are let go; the one in use
    always stays.

    Parameters
    ----------
    registry
        The installed models.
    config
        Engine, threads, memory budget, cache folder.
    """

    def __init__(self, registry: Registry, config: InferenceConfig) -> None:
        self._registry = registry
        self._config = config
        self._loaded: OrderedDict[str, Backend] = OrderedDict()  # least recently used first
        self._loading: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Ids of the models in memory, least recently used first."""
        with self._lock:
            return tuple(self._loaded)

    def warm(self, model_id: str) -> None:
        """Load a model before it is needed.

        Raises
        ------
        InferenceError
            There is no such model, or it can't be loaded.
        """
        self._backend(self._registry.get(model_id))

    def predict(self, model_id: str, image: SourceImage) -> Prediction:
        """Run a model on an image: calibrated findings and the heatmap of the leading one.

        Whether the model is meant for such an image is for :mod:`inference.routing` to say.

        Parameters
        ----------
        model_id
            Folder name of the model.
        image
            As read by :func:`inference.reading.read_image`.

        Returns
        -------
        Prediction
            Its heatmap is float32 [rows, columns] of the image, and explains the most probable
            positive finding, or the most probable one if none is positive.

        Raises
        ------
        InferenceError
            There is no such model, it can't be loaded, or the image is too small.
        """
        package = self._registry.get(model_id)
        _check_size(image, package.manifest)
        backend = self._backend(package)
        started = time.perf_counter()
        tensor = prepare(image.array, package.manifest.input)
        logits, features = backend.predict(tensor[np.newaxis])
        if not np.isfinite(logits).all():
            raise BackendError(f"Model {model_id!r} gave a value that is not a number.")
        findings = findings_of(calibrate(logits[0], package.manifest), package.manifest)
        heatmap = _explain(features[0], findings, backend, image, package.manifest)
        return Prediction(
            model=package.identity,
            sop_instance_uid=image.facts.sop_instance_uid,
            findings=findings,
            heatmap=heatmap,
            seconds=time.perf_counter() - started,
        )

    def _backend(self, package: ModelPackage) -> Backend:
        model_id = package.manifest.id
        with self._lock:
            loading = self._loading.setdefault(model_id, threading.Lock())
        with loading:
            with self._lock:
                backend = self._loaded.get(model_id)
                if backend is not None:
                    self._loaded.move_to_end(model_id)
                    return backend
            started = time.perf_counter()
            backend = open_backend(package, self._config)
            _log.info(
                "model %s %s loaded into %s in %.1f s",
                model_id,
                package.manifest.version,
                backend.name,
                time.perf_counter() - started,
            )
            with self._lock:
                self._loaded[model_id] = backend
                self._evict()
            return backend

    def _evict(self) -> None:
        """Let the least recently used models go; running predictions finish with theirs."""
        budget = self._config.memory_budget_mb << 20
        while len(self._loaded) > 1:
            if sum(backend.resident_bytes for backend in self._loaded.values()) <= budget:
                return
            model_id, _ = self._loaded.popitem(last=False)
            _log.info("model %s unloaded: memory budget", model_id)


def _check_size(image: SourceImage, manifest: Manifest) -> None:
    if not any(
        image.rows >= accepts.minimum_rows and image.columns >= accepts.minimum_columns
        for accepts in manifest.accepts
    ):
        raise ImageTooSmallError(
            f"The image has {image.rows} x {image.columns} pixels; "
            f"model {manifest.id!r} needs more."
        )


def _explain(
    features: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    findings: tuple[Finding, ...],
    backend: Backend,
    image: SourceImage,
    manifest: Manifest,
) -> Heatmap | None:
    if manifest.explain is None:
        return None
    output = explained_output(findings, manifest)
    cam = grad_cam(features, backend.head, output.channel)
    array = to_source_grid(cam, image.rows, image.columns, manifest.input)
    return Heatmap(array=array, label=output.label, layer=manifest.explain.layer)
