"""Models in memory: loaded once, kept warm, within a budget."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

from inference.backends import Backend, open_backend
from inference.config import InferenceConfig
from inference.errors import ImageTooSmallError
from inference.manifest import Manifest
from inference.pipelines import Source, run_pipeline
from inference.pipelines.slices import OpenSlice, classify_slices
from inference.quality import check_source
from inference.registry import ModelPackage, Registry
from inference.source_image import SourceImage
from ledger.domain import Prediction

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
    has_gates
        Whether pictures that a model's gate doesn't let through are refused. Patients are served
        so; a model is measured and verified without.
    """

    def __init__(
        self, registry: Registry, config: InferenceConfig, *, has_gates: bool = False
    ) -> None:
        self._registry = registry
        self._has_gates = has_gates
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

    def predict(self, model_id: str, source: Source) -> Prediction:
        """Run a model on an image, or on a series if it is made for series.

        Whether the model is meant for such a source is for :mod:`inference.routing` to say.

        Parameters
        ----------
        model_id
            Folder name of the model.
        source
            As read by :mod:`inference.reading` or :mod:`inference.volume`.

        Raises
        ------
        InferenceError
            There is no such model, it can't be loaded, the image is too small, or the model's gate
            refuses it.
        """
        package = self._registry.get(model_id)
        if isinstance(source, SourceImage):
            _check_size(source, package.manifest)
        if self._has_gates:
            check_source(source, package)
        return run_pipeline(package, self._backend(package), source)

    def predict_slices(self, model_id: str, slices: Sequence[OpenSlice]) -> tuple[Prediction, ...]:
        """Run a model of single images on all slices of a series; return what the key slices show.

        Parameters
        ----------
        model_id
            Folder name of the model.
        slices
            What opens each slice.

        Raises
        ------
        InferenceError
            There is no such model, it can't be loaded, or no slice can be used.
        """
        package = self._registry.get(model_id)
        backend = self._backend(package)
        return classify_slices(package, backend, slices, has_gate=self._has_gates)

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
