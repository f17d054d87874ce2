"""Weights to start from: a packed int8 file, or any checkpoint of the same network."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from inference.weights import sha256_of
from training.errors import StartWeightsError
from training.importing.errors import SourceError
from training.importing.tensors import read_source


def load_start_weights(network: torch.nn.Module, path: Path, expected_sha256: str = "") -> None:
    """Fill `network`, all but its last linear layer, which starts at zero.

    Parameters
    ----------
    network
        A timm module.
    path
        ``.npz``: for each convolution K, in the network's order, ``K.weight_q`` (int8),
        ``K.scale`` (float32, one for each output channel) and ``K.bias``, batch norm folded in.
        ``.safetensors``: tensors by the network's own names; those of the last layer are ignored.
    expected_sha256
        Digest that the file must have, if not empty.

    Raises
    ------
    StartWeightsError
        The file is missing, another one, unreadable, or doesn't fit.
    """
    _check_file(path, expected_sha256)
    if path.suffix == ".npz":
        _load_folded(network, path)
    elif path.suffix == ".safetensors":
        _load_named(network, path)
    else:
        raise StartWeightsError(f"{path.name}: start weights are .npz or .safetensors files.")


def load_whole_network(network: torch.nn.Module, path: Path, expected_sha256: str = "") -> None:
    """Fill `network`, its last layer too, from a file of exactly its tensors.

    Parameters
    ----------
    network
        Any module.
    path
        ``.safetensors``, or a file of PyTorch, of which tensors are read and nothing else.
    expected_sha256
        Digest that the file must have, if not empty.

    Raises
    ------
    StartWeightsError
        The file is missing, another one, unreadable, or doesn't fit.
    """
    _check_file(path, expected_sha256)
    try:
        tensors = read_source(path).tensors
    except SourceError as error:
        raise StartWeightsError(f"The start weights can't be used: {error}") from error
    own = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors or tensors[name].shape != own[name].shape:
            raise StartWeightsError(f"{path.name} doesn't fit the network: see {name}.")
    network.load_state_dict(tensors, strict=False)


def load_encoder(network: torch.nn.Module, path: Path, expected_sha256: str = "") -> None:
    """Fill the way down of a ``mobilenetv2-unet`` from a classifier's start weights.

    Raises
    ------
    StartWeightsError
        As :func:`load_start_weights`, or the network has no such way down.
    """
    import timm  # it needs what building the network has made ready

    encoder = getattr(getattr(network, "encoder", None), "model", None)
    if not isinstance(encoder, torch.nn.Module):
        raise StartWeightsError(f"{path.name} is for MobileNetV2; the network has none in it.")
    stem = encoder.get_parameter("conv_stem.weight")
    whole = timm.create_model("mobilenetv2_100", num_classes=1, in_chans=stem.shape[1])
    load_start_weights(whole, path, expected_sha256)
    tensors = whole.state_dict()
    encoder.load_state_dict({name: tensors[name] for name in encoder.state_dict()})


def _check_file(path: Path, expected_sha256: str) -> None:
    if not path.is_file():
        raise StartWeightsError(f"There is no start weights file {path}.")
    if expected_sha256 and sha256_of(path) != expected_sha256:
        raise StartWeightsError(
            f"{path.name} is not the file that the recipe names (sha256 {expected_sha256[:12]}…); "
            "get that file, or take start_weights.sha256 out of the recipe."
        )


def zero_last_layer(network: torch.nn.Module) -> None:
    """Let the network begin without an opinion: all logits 0."""
    for parameter in _last_layer(network).parameters():
        torch.nn.init.zeros_(parameter)


def _last_layer(network: torch.nn.Module) -> torch.nn.Module:
    layer = network.get_classifier()  # type: ignore[operator]  # every timm network has it
    assert isinstance(layer, torch.nn.Module)
    return layer


def _load_folded(network: torch.nn.Module, path: Path) -> None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise StartWeightsError(f"{path.name} is not a readable .npz file.") from error
    layers = {name.rpartition(".")[0] for name in arrays if name.endswith(".weight_q")}
    names = sorted((name for name in layers if arrays[f"{name}.weight_q"].ndim == 4), key=_order)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if not len(names) == len(convolutions) == len(norms):
        raise StartWeightsError(
            f"{path.name} has {len(names)} convolutions, the network has {len(convolutions)}."
        )
    for name, convolution, norm in zip(names, convolutions, norms, strict=True):
        _fill(convolution, norm, name, arrays, path.name)


def _fill(
    convolution: torch.nn.Conv2d,
    norm: torch.nn.BatchNorm2d,
    name: str,
    arrays: dict[str, NDArray[np.generic]],
    file_name: str,
) -> None:
    """Put one folded convolution into a convolution and a batch norm that only adds its bias."""
    try:
        quantised, scale = arrays[f"{name}.weight_q"], arrays[f"{name}.scale"]
        bias = torch.from_numpy(np.asarray(arrays[f"{name}.bias"], np.float32))
    except KeyError as error:
        raise StartWeightsError(f"{file_name} has no {error.args[0]}.") from error
    weight = np.asarray(quantised, np.float32) * np.asarray(scale, np.float32).reshape(-1, 1, 1, 1)
    if weight.shape != tuple(convolution.weight.shape) or bias.shape != norm.bias.shape:
        shapes = f"{list(weight.shape)}, not {list(convolution.weight.shape)}"
        raise StartWeightsError(f"{file_name} doesn't fit the network: {name} is {shapes}.")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(weight))
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)


def _order(name: str) -> tuple[tuple[int, str], ...]:
    """Order ``features.10`` after ``features.9``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in name.split("."))


def _load_named(network: torch.nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise StartWeightsError(f"{path.name} is not a complete safetensors file.") from error
    own = network.state_dict()
    last = {id(parameter) for parameter in _last_layer(network).parameters()}
    skipped = {name for name, parameter in network.named_parameters() if id(parameter) in last}
    skipped |= {name for name in own if name.endswith("num_batches_tracked")}
    for name in own.keys() - skipped:
        if name not in tensors:
            raise StartWeightsError(f"{path.name} doesn't fit the network: {name} is missing.")
        if tensors[name].shape != own[name].shape:
            shapes = f"{list(tensors[name].shape)}, not {list(own[name].shape)}"
            raise StartWeightsError(f"{path.name} doesn't fit the network: {name} is {shapes}.")
    kept = {name: tensor for name, tensor in tensors.items() if name in own.keys() - skipped}
    network.load_state_dict(kept, strict=False)
