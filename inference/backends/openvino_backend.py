"""OpenVINO on the CPU: five times as fast as eager torch, converted from the same weights.

The converted model is kept in ``cache_dir``, so later starts need no torch at all.
"""

from __future__ import annotations

import queue
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from inference.backends.base import Tensor
from inference.backends.model_cache import ModelCache
from inference.config import InferenceConfig
from inference.errors import BackendError
from inference.heads import open_head
from inference.manifest import Manifest
from inference.network_table import ONNX
from inference.networks import build_manifest_network, served
from inference.onnx_graph import read_graph
from inference.registry import ModelPackage
from inference.weights import load_weights

_TELEMETRY = "openvino_telemetry"
_FIXED_BYTES = 48 << 20  # measured: what a compiled network takes beside its weights
_WEIGHT_COPIES = 2.5  # measured: constants, and oneDNN's reordered copies


class OpenVinoBackend:
    """A model compiled for this CPU in float32, for one image at a time.

    Several threads may predict at once; each takes an inference request of its own.

    Raises
    ------
    InferenceError
        The weights don't fit the network, or OpenVINO can't compile it.
    """

    name = "openvino"

    def __init__(self, package: ModelPackage, config: InferenceConfig) -> None:
        openvino = _import_openvino()
        core = openvino.Core()
        options = _options(openvino, config)
        try:
            key = _cache_key(package.manifest, openvino, core)
            cache = ModelCache(config.cache_dir)
            blob = cache.read(key)
            self._compiled: Any = None if blob is None else _restore(core, blob, options)
            if self._compiled is None:
                self._compiled = core.compile_model(_convert(package, openvino), "CPU", options)
                cache.write(key, self._compiled.export_model().getvalue())
            self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._requests.put(self._compiled.create_infer_request())
        except RuntimeError as error:  # OpenVINO's only kind
            raise BackendError(
                f"OpenVINO can't run model {package.manifest.id!r} on this CPU; "
                "set inference.backend to torch."
            ) from error
        self.head = open_head(package)
        weights = package.weights.stat().st_size
        self.resident_bytes = _FIXED_BYTES + int(_WEIGHT_COPIES * weights)

    def run(self, batch: Tensor) -> tuple[Tensor, ...]:
        """See :class:`inference.backends.base.Backend`."""
        try:
            request = self._requests.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            results = [self._infer(request, image) for image in batch]
        except RuntimeError as error:  # OpenVINO's only kind
            raise BackendError("OpenVINO failed on this image; see the log.") from error
        self._requests.put(request)  # a request that failed is not used again
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    def _infer(self, request: Any, image: Tensor) -> tuple[Tensor, ...]:
        request.infer([np.ascontiguousarray(image[np.newaxis], np.float32)])
        count = len(self._compiled.outputs)
        return tuple(request.get_output_tensor(index).data.copy() for index in range(count))


_hiding = threading.Lock()


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hide the package that reports every import of OpenVINO to its maker; a stub takes its place.

    A hospital's server sends nothing anywhere that nobody asked for. One thread at a time: what it
    changes is the whole process's, and several models may be loading.
    """
    with _hiding:
        hidden = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # the documented way
        try:
            yield
        finally:
            if hidden is None:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = hidden


def _import_openvino() -> Any:
    try:
        with _without_telemetry(), warnings.catch_warnings(action="ignore"):
            import openvino
    except ImportError as error:
        raise BackendError("OpenVINO is not installed; set inference.backend to torch.") from error
    return openvino


def _options(openvino: Any, config: InferenceConfig) -> dict[Any, Any]:
    properties, hint = openvino.properties, openvino.properties.hint
    options = {
        hint.performance_mode(): hint.PerformanceMode.LATENCY,
        hint.inference_precision(): openvino.Type.f32,  # bf16 CPUs would drift from the reference
    }
    if config.threads:
        options[properties.inference_num_threads()] = config.threads
    return options


def _cache_key(manifest: Manifest, openvino: Any, core: Any) -> tuple[object, ...]:
    return (
        manifest.weights.sha256,
        manifest.network.model_dump_json(),
        manifest.input.shape,
        openvino.get_version(),
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    )


def _restore(core: Any, blob: bytes, options: dict[Any, Any]) -> Any | None:
    try:
        return core.import_model(blob, "CPU", options)
    except RuntimeError:  # written by an OpenVINO that calls itself the same but isn't
        return None


def _convert(package: ModelPackage, openvino: Any) -> Any:
    """Trace the network with its weights, and return it as an OpenVINO model of one image."""
    if package.manifest.network.name == ONNX:
        with _without_telemetry():
            return read_graph(package.weights, package.manifest, openvino)
    import torch

    network = build_manifest_network(package.manifest)
    load_weights(network, package.weights)
    module = served(network, package.manifest.network.name)
    example = torch.zeros(1, *package.manifest.input.shape)
    with warnings.catch_warnings(action="ignore"), torch.inference_mode():
        # without the check, which runs the slow tracer twice more; tests compare the results
        traced = torch.jit.trace(module, example, check_trace=False)
        with _without_telemetry():
            return openvino.convert_model(traced, input=[tuple(example.shape)])
