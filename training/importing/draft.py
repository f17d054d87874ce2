"""The description that comes with weights: a manifest without ``weights``.

``version``, ``research_statement`` and ``content_qualification`` have defaults; a network whose
last feature map can be explained is explained unless ``explain: null`` says otherwise. ``network``
may be left out for a MONAI bundle, which says it itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inference.errors import ModelPackageError
from inference.manifest import MAX_MANIFEST_BYTES, Manifest, NetworkRef, parse_manifest
from inference.network_table import NETWORKS, ONNX
from training.importing.errors import DraftError

_DEFAULTS = {
    "version": "1.0.0",
    "research_statement": "For research use only; not a medical device",
    "content_qualification": "RESEARCH",
}
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Draft:
    """A description as it was read."""

    file: str
    values: Mapping[str, Any]

    def manifest(self, network: NetworkRef | None = None, sha256: str = _NO_DIGEST) -> Manifest:
        """Return the manifest that it becomes.

        Parameters
        ----------
        network
            What the weights say about their network; a draft that names one must agree.
        sha256
            Digest of the weights, once they are written.

        Raises
        ------
        DraftError
            A key is missing, unknown or wrong.
        """
        values = {**_DEFAULTS, **self.values}
        if network is not None:
            values.setdefault("network", network.model_dump())
        is_graph = _network_name(values) == ONNX
        values["weights"] = {
            "file": "model.onnx" if is_graph else "weights.safetensors",
            "sha256": sha256,
        }
        entry = NETWORKS.get(_network_name(values))
        if "explain" not in values and entry is not None and entry.layer:
            values["explain"] = {"method": "gradcam", "layer": entry.layer}
        try:
            manifest = parse_manifest(values, self.file)
        except ModelPackageError as error:
            raise DraftError(f"{self.file}: {str(error).partition(': ')[2]}") from error
        if network is not None and manifest.network != network:
            raise DraftError(
                f"{self.file}: network is not what the bundle says; take it out of the draft."
            )
        if manifest.pipeline == "detection" and is_graph:
            raise DraftError(
                f"{self.file}: ONNX files are taken for classification and segmentation only."
            )
        return manifest


def read_draft(path: Path) -> Draft:
    """Read a description.

    Raises
    ------
    DraftError
        It can't be read, is no mapping, or names weights.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise DraftError(f"The draft {path} can't be read ({error.strerror}).") from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise DraftError(f"{path.name} is too long for a draft.")
    try:
        values = yaml.safe_load(text.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise DraftError(f"{path.name} is not valid YAML{line}.") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise DraftError(f"{path.name} must hold keys and values, as a manifest does.")
    if "weights" in values:
        raise DraftError(f"{path.name}: take out weights; the import writes it.")
    return Draft(path.name, values)


def _network_name(values: Mapping[str, Any]) -> str:
    network = values.get("network")
    return str(network.get("name")) if isinstance(network, Mapping) else ""
