"""Weights files: digest, reading, writing. safetensors only, so nothing in them is executed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inference.errors import (
    WeightsDigestError,
    WeightsMismatchError,
    WeightsMissingError,
    WeightsUnreadableError,
)
from inference.manifest import Manifest, weights_path

if TYPE_CHECKING:
    import torch


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(folder: Path, manifest: Manifest) -> Path:
    """Return the path of the weights after comparing their digest with the manifest's.

    Raises
    ------
    ModelPackageError
        The file is missing, outside the folder, or another one.
    """
    path = weights_path(folder, manifest)
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise WeightsMissingError(
            f"Model folder {folder.name!r}: {path.name} can't be read ({error.strerror})."
        ) from error
    if digest != manifest.weights.sha256:
        raise WeightsDigestError(
            f"Model folder {folder.name!r}: {path.name} has sha256 {digest[:12]}…, the manifest "
            f"says {manifest.weights.sha256[:12]}…; get the folder again."
        )
    return path


def read_tensors(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Read some tensors of a weights file as float32, without torch.

    Raises
    ------
    ModelPackageError
        The file is not a safetensors file, or has no such tensor.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            missing = sorted(set(names) - set(file.keys()))
            if missing:
                raise _mismatch(path, f"{missing[0]} is missing")
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in names}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path) from error


def load_weights(network: torch.nn.Module, path: Path) -> None:
    """Fill `network` from a weights file; every tensor has to fit. float16 becomes float32.

    Raises
    ------
    ModelPackageError
        The file is not a safetensors file, or its tensors are not the network's.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path) from error
    own = network.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    if missing := sorted(own.keys() - tensors.keys() - optional):
        raise _mismatch(path, f"{missing[0]} is missing")
    if surplus := sorted(tensors.keys() - own.keys()):
        raise _mismatch(path, f"{surplus[0]} is not part of it")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, not {list(own[name].shape)}"
            raise _mismatch(path, f"{name} is {shapes}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _mismatch(path, f"{name} has values that are not finite")
    network.load_state_dict(tensors, strict=False)


def save_weights(network: torch.nn.Module, path: Path) -> str:
    """Write the weights of `network` for :func:`load_weights`; return the file's sha256.

    Batch norm counters are left out: they matter only while training with moving statistics.
    """
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, path)
    return sha256_of(path)


def _mismatch(path: Path, what: str) -> WeightsMismatchError:
    return WeightsMismatchError(
        f"Model folder {path.parent.name!r}: {path.name} doesn't fit the network ({what})."
    )


def _unreadable(path: Path) -> WeightsUnreadableError:
    return WeightsUnreadableError(
        f"Model folder {path.parent.name!r}: {path.name} is not a complete safetensors file."
    )
