"""What a model's training pictures look like, and how far another picture is from that.

Two numbers judge a description of :mod:`inference.descriptor`:

* the *distance*: Mahalanobis within the main directions of the training pictures, plus what lies
  outside of them, each against what is usual. It grows for pictures of any unknown kind.
* the *likeness*: log-odds of a linear classifier that tells training pictures from other kinds of
  pictures, where the gate was fitted against some.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.descriptor import SIZE, block_weights
from inference.errors import (
    GateDigestError,
    GateMissingError,
    GateUnreadableError,
    PathEscapeError,
)
from inference.gate_spec import GateSpec
from inference.weights import sha256_of

CLIP = 6.0
"""Largest deviation, in units of the usual one, that counts for the likeness."""
_SHAPES = {
    "center": (SIZE,),
    "scale": (SIZE,),
    "components": (-1, SIZE),
    "variances": (-1,),
    "residual": (1,),
    "likeness_weights": (SIZE,),
    "likeness_bias": (1,),
}

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Gate:
    """Statistics of K main directions of N training pictures' descriptions.

    Attributes
    ----------
    center, scale
        float32 [SIZE]; a description becomes ``(description - center) / scale``, and for the
        distance the blocks are weighed alike.
    components, variances
        float32 [K, SIZE] and [K]: main directions and their usual squares.
    residual
        float32 [1], the usual square of what lies outside of them.
    likeness_weights, likeness_bias
        float32 [SIZE] and [1] of the classifier; zeros where there is none.
    """

    center: Numbers
    scale: Numbers
    components: Numbers
    variances: Numbers
    residual: Numbers
    likeness_weights: Numbers
    likeness_bias: Numbers

    def distances(self, descriptions: Numbers) -> Numbers:
        """Return the distance of each description, [N, SIZE] to [N]; about 1 is usual."""
        scaled = (descriptions - self.center) / self.scale * block_weights()
        inside = scaled @ self.components.T
        outside = np.maximum((scaled**2).sum(axis=1) - (inside**2).sum(axis=1), 0.0)
        squares = (inside**2 / self.variances).mean(axis=1) + outside / self.residual
        return np.sqrt(squares / 2.0).astype(np.float32)

    def likenesses(self, descriptions: Numbers) -> Numbers:
        """Return the log-odds of each description, [N, SIZE] to [N]."""
        scaled = clipped(descriptions, self.center, self.scale)
        return (scaled @ self.likeness_weights + self.likeness_bias).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a safetensors file for :func:`load_gate`."""
        from safetensors.numpy import save_file

        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _SHAPES}
        save_file(tensors, path)
        path.chmod(0o644)  # safetensors makes it readable to its owner only


def clipped(descriptions: Numbers, center: Numbers, scale: Numbers) -> Numbers:
    """Return descriptions as the classifier of the likeness takes them, [N, SIZE]."""
    return np.clip((descriptions - center) / scale, -CLIP, CLIP)


def load_gate(path: Path) -> Gate:
    """Read a gate file.

    Raises
    ------
    GateUnreadableError
        It is not the safetensors file of a gate.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        gate = Gate(**{name: np.asarray(tensors[name], np.float32) for name in _SHAPES})
    except (SafetensorError, OSError, KeyError) as error:
        raise _unreadable(path, "it is not complete") from error
    _check(gate, path)
    return gate


def check_gate(folder: Path, spec: GateSpec) -> None:
    """Compare the digest of a model's gate file with the manifest's.

    Raises
    ------
    ModelPackageError
        The file is missing, outside the folder, or another one.
    """
    path = folder / spec.file
    if path.resolve().parent != folder.resolve():
        raise PathEscapeError(
            f"Model folder {folder.name!r}: gate.file must be the name of a file in that folder."
        )
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise GateMissingError(
            f"Model folder {folder.name!r}: {path.name} can't be read ({error.strerror})."
        ) from error
    if digest != spec.sha256:
        raise GateDigestError(
            f"Model folder {folder.name!r}: {path.name} has sha256 {digest[:12]}…, the manifest "
            f"says {spec.sha256[:12]}…; get the folder again."
        )


def _check(gate: Gate, path: Path) -> None:
    count = len(gate.variances)
    for name, shape in _SHAPES.items():
        tensor = getattr(gate, name)
        expected = tuple(count if side < 0 else side for side in shape)
        if tensor.shape != expected or not np.isfinite(tensor).all():
            raise _unreadable(path, f"{name} is not {list(expected)} finite numbers")
    for name in ("scale", "variances", "residual"):
        if not (getattr(gate, name) > 0.0).all():
            raise _unreadable(path, f"{name} has a value that is not positive")


def _unreadable(path: Path, what: str) -> GateUnreadableError:
    return GateUnreadableError(
        f"Model folder {path.parent.name!r}: {path.name} can't be used ({what}); "
        "fit the gate again."
    )
