"""Putting named tensors into a network: by its own names, or by those of a twin elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from inference.manifest import InputSpec, Manifest, NetworkRef
from inference.network_table import NETWORKS
from inference.networks import build_network
from training.importing.errors import WeightsDontFitError
from training.importing.tensors import Tensors
from training.importing.twins import TOLERANCE, TWINS, Twin, difference

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_SHOWN = 3
_HEAD = 4
"""How many tensors a replaced last layer makes different: two less, two more."""


@dataclass(frozen=True, slots=True)
class Naming:
    """A way to name a network's tensors: what it is called, and the shape of each."""

    title: str
    shapes: Mapping[str, torch.Size]
    twin: Twin | None = None
    skeleton: torch.nn.Module | None = None


def fill_network(network: torch.nn.Module, manifest: Manifest, tensors: Tensors, file: str) -> str:
    """Put tensors into a network; return whose names they have.

    Parameters
    ----------
    network
        The one of `manifest`; its own names, or those of torchvision or MONAI for the same
        network, are understood, with whatever all names have in front (``module.``).
    file
        Its name, for error messages.

    Raises
    ------
    WeightsDontFitError
        Tensors are missing, too many, or of another shape, or the network then answers otherwise
        than its twin does.
    """
    namings = _namings(network, manifest)
    best: tuple[int, Tensors, Naming] | None = None
    for candidate in _candidates(tensors, manifest.network.name):
        for naming in namings:
            renamed = _renamed(candidate, naming)
            distance = len(renamed.keys() ^ naming.shapes.keys())
            if best is None or distance < best[0]:
                best = distance, renamed, naming
    assert best is not None
    _, fitting, naming = best
    _check_names(fitting, naming, file, manifest.network.name)
    _check_shapes(fitting, naming, file, manifest.network.name)
    own = namings[0].shapes
    placed = dict(zip(own, (fitting[name] for name in naming.shapes), strict=True))
    state = {name: placed[name].reshape(shape) for name, shape in own.items()}
    network.load_state_dict(state, strict=False)
    if naming.skeleton is not None:
        apart = difference(network, naming.skeleton, fitting, manifest.input.shape)
        if not apart <= TOLERANCE:
            raise WeightsDontFitError(
                f"{file}: {manifest.network.name} as drafted answers otherwise than "
                f"{naming.title} with these weights (by {apart:.2g}); check network.args and "
                "input.shape (vgg16 needs 224 rows and columns)."
            )
    return naming.title


def _namings(network: torch.nn.Module, manifest: Manifest) -> list[Naming]:
    name, outputs = manifest.network.name, manifest.network.channels
    found = [Naming(f"{name} here", _shapes(network))]
    for twin in TWINS.get(name, ()):
        skeleton = twin.skeleton(outputs, manifest.input.shape[0])
        found.append(Naming(twin.title, _shapes(skeleton), twin, skeleton))
    return found


def _shapes(network: torch.nn.Module) -> dict[str, torch.Size]:
    return {
        name: tensor.shape
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _candidates(tensors: Tensors, network: str) -> Iterator[Tensors]:
    """Yield the tensors as they are named, then without what all names have in front."""
    if network == "densenet121":  # torchvision's names before 2018, still met
        tensors = {_OLD_DENSENET.sub(r"\1\2.", name): item for name, item in tensors.items()}
    yield tensors
    while len({name.partition(".")[0] for name in tensors}) == 1:
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
        if "" in tensors:
            return
        yield tensors


def _renamed(tensors: Tensors, naming: Naming) -> Tensors:
    """Leave out what a twin needs for training only, and find its last layer under other names."""
    if naming.twin is None:
        return tensors
    kept = (
        {name: item for name, item in tensors.items() if not name.startswith(naming.twin.surplus)}
        if naming.twin.surplus
        else dict(tensors)
    )
    last = naming.twin.last
    if f"{last}.weight" in kept:
        return kept
    root = last.partition(".")[0]
    strange = [name for name in kept.keys() - naming.shapes.keys() if name.startswith(f"{root}.")]
    layers = {name.rpartition(".")[0] for name in strange}
    if len(layers) == 1 and {name.rpartition(".")[2] for name in strange} == {"weight", "bias"}:
        layer = layers.pop()
        for part in ("weight", "bias"):
            kept[f"{last}.{part}"] = kept.pop(f"{layer}.{part}")
    return kept


def _check_names(tensors: Tensors, naming: Naming, file: str, network: str) -> None:
    missing = [name for name in naming.shapes if name not in tensors]
    surplus = [name for name in tensors if name not in naming.shapes]
    parts = [
        f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {what} ({_first(names)})"
        for names, what in ((missing, "missing"), (surplus, "not part of it"))
        if names
    ]
    if not parts:
        return
    named = f", named as in {naming.title}" if naming.twin is not None else ""
    is_strange = 2 * len(missing) > len(naming.shapes)
    other = _looks_like(tensors, network) if is_strange else None
    hint = f"; it looks like {other}" if other is not None else ""
    raise WeightsDontFitError(
        f"{file} doesn't fit network {network}{named}: {' and '.join(parts)}{hint}."
    )


def _looks_like(tensors: Tensors, network: str) -> str | None:
    """Return the other classifier whose tensors, the last layer's aside, have these names."""
    if NETWORKS[network].kind != "classifier":
        return None
    for name, entry in NETWORKS.items():
        if entry.kind != "classifier" or name == network:
            continue
        spec = InputSpec(shape=(3, 224, 224), color="rgb", resize="squash", mean=(0.0,), std=(1.0,))
        with torch.device("meta"):
            other = build_network(NetworkRef(name=name, channels=2), spec)
        known = [set(_shapes(other))]
        known += [set(_shapes(twin.skeleton(2, 3))) for twin in TWINS.get(name, ())]
        if any(len(names ^ tensors.keys()) <= _HEAD for names in known):
            return name
    return None


def _check_shapes(tensors: Tensors, naming: Naming, file: str, network: str) -> None:
    wrong = [
        f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in naming.shapes.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        count = "1 tensor has" if len(wrong) == 1 else f"{len(wrong)} tensors have"
        raise WeightsDontFitError(
            f"{file} doesn't fit network {network}: {count} another shape ({_first(wrong)}); "
            "check network.channels and input.shape."
        )


def _first(names: list[str]) -> str:
    return ", ".join([*names[:_SHOWN], "…"] if len(names) > _SHOWN else names)
