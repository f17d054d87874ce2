"""Reading tensors out of files of others. Nothing in them is executed."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from training.importing.errors import SourceError, UnsafeSourceError

Tensors = dict[str, torch.Tensor]
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")

# Numbers of numpy, which trainers like to keep beside the weights. Rebuilding them runs no code.
_scalar = np.float64(0.0).__reduce__()[0]
_NUMBERS: list[Any] = [
    np.dtype,
    (_scalar, "numpy.core.multiarray.scalar"),  # its name before numpy 2
    (_scalar, "numpy._core.multiarray.scalar"),
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")},
]
_BOOKKEEPING = ("num_batches_tracked", "total_ops", "total_params")


@dataclass(frozen=True, slots=True)
class Found:
    """The tensors of a network, by name, and under which key of the file they were."""

    tensors: Tensors
    key: str = ""


def read_source(path: Path, key: str | None = None) -> Found:
    """Read a file of named tensors: PyTorch's or safetensors.

    Parameters
    ----------
    path
        Its kind is told from the end of its name.
    key
        Which of several sets of tensors to take; by default there must be only one.

    Raises
    ------
    SourceError
        The file is missing, of another kind, damaged, or has no or several sets of tensors.
    UnsafeSourceError
        It holds a program or other Python objects.
    """
    if not path.is_file():
        raise SourceError(f"There is no file {path}.")
    if path.suffix == ".safetensors":
        try:
            content: object = load_file(path)
        except (SafetensorError, OSError) as error:
            raise SourceError(f"{path.name} is not a complete safetensors file.") from error
    elif path.suffix in TORCH_SUFFIXES:
        content = _read_torch(path)
    else:
        raise SourceError(
            f"{path.name} is of an unknown kind; it must end in {', '.join(TORCH_SUFFIXES)}, "
            ".safetensors, .npz or .onnx, or be the folder of a MONAI bundle."
        )
    found = _choose(content, path.name, key)
    return Found(_plain(found.tensors, path.name), found.key)


def _read_torch(path: Path) -> object:
    if _is_program(path):
        raise UnsafeSourceError(
            f"{path.name} is a TorchScript program; save network.state_dict() instead."
        )
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)|Unsupported (operand|class)", str(error))
        if unsafe is None:
            raise _damaged(path) from error
        what = f" ({unsafe[1]})" if unsafe[1] else ""
        raise UnsafeSourceError(
            f"{path.name} holds Python objects{what} beside tensors and is not opened; "
            "save network.state_dict() instead."
        ) from error
    except _DAMAGE as error:
        raise _damaged(path) from error


_DAMAGE = (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError)
"""What torch raises on a damaged file, depending on where it is damaged."""


def _is_program(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _damaged(path: Path) -> SourceError:
    return SourceError(f"{path.name} is not a complete PyTorch file.")


def _choose(content: object, name: str, key: str | None) -> Found:
    """Return the one set of tensors: the whole file, or what lies under a key."""
    if not isinstance(content, Mapping):
        raise SourceError(f"{name} holds no tensors by name; save network.state_dict().")
    if key is None and _is_tensors(content):
        return Found(dict(content))
    sets = {str(part): value for part, value in content.items() if _is_tensors(value)}
    if key is not None and key not in sets:
        raise SourceError(f"{name} has no tensors under {key!r}; it has {_listed(sets)}.")
    if key is None and len(sets) != 1:
        raise SourceError(
            f"{name} has {'several sets of' if sets else 'no'} tensors by name "
            f"({_listed(sets or content)}); choose one with --key."
        )
    chosen = key if key is not None else next(iter(sets))
    return Found(dict(sets[chosen]), chosen)


def _is_tensors(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and all(isinstance(item, torch.Tensor) for item in value.values())
    )


def _listed(names: Mapping[Any, object]) -> str:
    shown = [repr(str(name)) for name in list(names)[:5]]
    return ", ".join([*shown, "…"] if len(names) > 5 else shown) or "none"


def _plain(tensors: Tensors, name: str) -> Tensors:
    """Leave out what only training needs; refuse what is no dense array of finite numbers."""
    kept = {
        key: tensor.detach() for key, tensor in tensors.items() if not key.endswith(_BOOKKEEPING)
    }
    for key, tensor in kept.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            raise SourceError(f"{name}: {key} is not a plain tensor; save it as float32.")
        if tensor.is_meta or (
            tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
        ):
            raise SourceError(f"{name}: {key} has values that are not finite.")
    return kept
