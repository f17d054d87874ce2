"""Drafts, ONNX files and bundles for the tests of importing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.inference.factories import manifest_data
from training.importing.run import ImportRequest, import_model
from training.progress import Silent

_WRITTEN_BY_THE_IMPORT = (
    "weights",
    "version",
    "research_statement",
    "content_qualification",
    "explain",
    "calibration",
)


def draft_values(outputs: int = 2, side: int = 64, **changes: Any) -> dict[str, Any]:
    """Return a draft of a small classifier."""
    data = manifest_data()
    for key in _WRITTEN_BY_THE_IMPORT:
        del data[key]
    data["input"]["shape"] = [3, side, side]
    data["network"] = {"name": "mobilenetv2", "channels": outputs}
    data["outputs"] = data["outputs"][:outputs]
    return data | changes


def segmenter_values(shape: Sequence[int], **changes: Any) -> dict[str, Any]:
    """Return a draft of a network with one segment."""
    data = draft_values(1, **changes) | {"pipeline": "segmentation"}
    data["input"] |= {"shape": list(shape), "unit": "series" if len(shape) == 4 else "image"}
    return data


def write_draft(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "draft.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def imported(folder: Path, source: Path, values: dict[str, Any], key: str | None = None) -> Path:
    """Import into ``folder/models`` and return the model's folder."""
    draft = write_draft(folder, values)
    return import_model(ImportRequest(source, draft, folder / "models", key), Silent())


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """Give batch norms statistics of other than 0 and 1, so that they matter."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(0.0, 0.2)
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def write_bundle(folder: Path, network: torch.nn.Module, **definition: Any) -> Path:
    """Write a MONAI bundle: what its scripts write, as far as the import looks at it."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    config = {
        "imports": ["$import os"],
        "classes": 2,
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": definition,
        "network": "$@network_def.to(@device)",
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


def onnx_bytes(
    weight: np.ndarray,
    bias: np.ndarray,
    last: str | None = None,
    axis: int = 1,
    is_external: bool = False,
    image: Sequence[int | str] = ("n", 3, 64, 64),
    outputs: int = 1,
) -> bytes:
    """Return an ONNX file: the mean of each channel, one linear layer, and a last step.

    Written field by field (onnx.proto), because the package ``onnx`` is not needed anywhere else.
    """
    nodes = [
        _node("GlobalAveragePool", ["x"], ["mean"]),
        _node("Flatten", ["mean"], ["flat"]),
        _node("Gemm", ["flat", "w", "b"], ["logits"], transB=1),
    ]
    names = ["logits"]
    if last is not None:
        nodes.append(
            _node(last, ["logits"], ["y"], **({"axis": axis} if last == "Softmax" else {}))
        )
        names = ["y"]
    names = [*names, "flat"][:outputs]
    tensors = [_tensor("w", weight, is_external), _tensor("b", bias, False)]
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, b"graph"),
            *(_field(5, tensor) for tensor in tensors),
            _field(11, _value("x", image)),
            *(_field(12, _value(name, ("n", "k"))) for name in names),
        ]
    )
    opset = _field(1, b"") + _field(2, 13)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


def _node(kind: str, inputs: list[str], outputs: list[str], **attributes: int) -> bytes:
    parts = [_field(1, name.encode()) for name in inputs]
    parts += [_field(2, name.encode()) for name in outputs]
    parts.append(_field(4, kind.encode()))
    for name, value in attributes.items():
        parts.append(_field(5, _field(1, name.encode()) + _field(3, value) + _field(20, 2)))
    return b"".join(parts)


def _tensor(name: str, array: np.ndarray, is_external: bool) -> bytes:
    parts = [_field(1, side) for side in array.shape] + [_field(2, 1), _field(8, name.encode())]
    if is_external:
        entry = _field(1, b"location") + _field(2, b"../../secret.bin")
        parts += [_field(13, entry), _field(14, 1)]
    else:
        parts.append(_field(9, array.astype("<f4").tobytes()))
    return b"".join(parts)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    sides = b"".join(
        _field(1, _field(1, side) if isinstance(side, int) else _field(2, side.encode()))
        for side in shape
    )
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, sides)))


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([*_varint(number << 3), *_varint(value)])
    return bytes([*_varint(number << 3 | 2), *_varint(len(value))]) + value


def _varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
