"""Packed int8 networks (``.npz``) with their batch norm folded in, whole."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from inference.manifest import Manifest
from training.importing.errors import SourceError, WeightsDontFitError
from training.start_weights import load_start_weights


def fill_folded(network: torch.nn.Module, manifest: Manifest, path: Path) -> str:
    """Put a packed file into a network, its last layer too; return whose names it has.

    Parameters
    ----------
    path
        As :func:`training.start_weights.load_start_weights` reads it, with one more layer K of two
        dimensions: the classifier.

    Raises
    ------
    StartWeightsError
        The file is missing, unreadable or its convolutions are others.
    SourceError
        It has no classifier.
    WeightsDontFitError
        The classifier has another shape, or the network pads otherwise than the file needs.
    """
    if not path.is_file():
        raise SourceError(f"There is no file {path}.")
    if manifest.network.args.get("padding") != "same":
        raise WeightsDontFitError(
            f"{path.name} needs network.args {{padding: same}}, as TensorFlow pads."
        )
    load_start_weights(network, path)
    weight, bias = _classifier(path)
    last = network.get_classifier()  # type: ignore[operator]  # every timm network has it
    if not isinstance(last, torch.nn.Linear) or weight.shape != last.weight.shape:
        raise WeightsDontFitError(
            f"{path.name} doesn't fit network {manifest.network.name}: its classifier gives "
            f"{weight.shape[0]} logits; check network.channels."
        )
    with torch.no_grad():
        last.weight.copy_(weight)
        last.bias.copy_(bias)
    return "packed int8, batch norm folded in"


def _classifier(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            names = [
                name.removesuffix(".weight_q")
                for name in file.files
                if name.endswith(".weight_q") and file[name].ndim == 2
            ]
            if len(names) != 1:
                raise SourceError(f"{path.name} has {len(names)} linear layers; it needs one.")
            quantised, scale, bias = (
                np.asarray(file[f"{names[0]}.{part}"], np.float32)
                for part in ("weight_q", "scale", "bias")
            )
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise SourceError(f"{path.name} is not a readable .npz file of packed weights.") from error
    weight = quantised * scale.reshape(-1, 1)
    return torch.from_numpy(weight), torch.from_numpy(bias)
