"""torchvision beside a torch it was not built for.

The PyPI wheel of torchvision can't load its C++ operators beside a CPU-only torch, and then
``import torchvision`` (so also timm and pytorch_grad_cam) fails with ``operator torchvision::nms
does not exist``: its Python side registers fake kernels for schemas that nobody declared. Declaring
the schemas first is enough, since Pacsight never calls these operators.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from pathlib import Path

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_lock = threading.Lock()
_library: object | None = None  # the declarations last as long as this object


def ready_torchvision() -> None:
    """Make ``import torchvision`` work; call it before timm or torchvision is imported.

    Real operators are loaded where they can be; only schemas that are then absent are declared.
    """
    global _library
    import torch

    with _lock:
        if _library is not None:
            return
        _load_real_operators()
        missing = [schema for name, schema in _SCHEMAS.items() if not _is_declared(name)]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            _library.define(schema)
    importlib.import_module("torchvision")


def _is_declared(name: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, name)


def _load_real_operators() -> None:
    import torch

    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for extension in Path(folder).glob("_C*.so"):
            try:
                torch.ops.load_library(str(extension))
            except OSError:  # built for another torch
                return
