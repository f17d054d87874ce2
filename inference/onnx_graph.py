"""ONNX files: a network and its weights in one, run by OpenVINO as they are.

A graph can't run programs, but it may point at other files; those that do are refused, since the
manifest's digest covers one file only. What a graph gives is always logits here: a softmax or
sigmoid at its end is taken off, because calibration comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inference.errors import WeightsMismatchError, WeightsUnreadableError
from inference.manifest import Manifest

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64
_EXTERNAL_DATA = 13  # of TensorProto, onnx.proto
# Where tensors can be: field numbers of onnx.proto, message by message.
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def read_graph(path: Path, manifest: Manifest, openvino: Any) -> Any:
    """Return the graph as an OpenVINO model of one image or volume that gives logits.

    Raises
    ------
    WeightsUnreadableError
        It is no ONNX file, points at other files, or has operations that OpenVINO lacks.
    WeightsMismatchError
        Its input or output is not what the manifest says.
    """
    content = path.read_bytes()
    try:
        is_whole = not _has_external(memoryview(content), "model", 0)
        model = openvino.Core().read_model(model=content) if is_whole else None
    except (IndexError, ValueError, RuntimeError) as error:  # the last is OpenVINO's only kind
        raise WeightsUnreadableError(
            f"Model folder {manifest.id!r}: {path.name} is not an ONNX file that OpenVINO can read."
        ) from error
    if model is None:
        raise WeightsUnreadableError(
            f"Model folder {manifest.id!r}: {path.name} keeps tensors in other files; "
            "export it as one file."
        )
    _shape_input(model, path, manifest, openvino)
    logits = _logits(model, path, manifest)
    return openvino.Model([logits], model.get_parameters(), manifest.id)


def final_activation(path: Path, openvino: Any) -> str | None:
    """Return ``softmax`` or ``sigmoid`` if the graph of :func:`read_graph` ends in one."""
    model = openvino.Core().read_model(model=path.read_bytes())
    kind = str(model.get_results()[0].input_value(0).get_node().get_type_name()).lower()
    return kind if kind in {"softmax", "sigmoid"} else None


def _shape_input(model: Any, path: Path, manifest: Manifest, openvino: Any) -> None:
    """Fix the input at one image of the manifest's shape."""
    wanted = [1, *manifest.input.shape]
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _mismatch(
            manifest,
            f"{path.name} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "it needs one of each",
        )
    given = model.inputs[0]
    if given.get_element_type().get_type_name() != "f32":
        raise _mismatch(manifest, f"{path.name} takes {given.get_element_type()}, not float32")
    shape = given.get_partial_shape()
    if not shape.compatible(openvino.PartialShape(wanted)):
        raise _mismatch(manifest, f"{path.name} takes {shape}, not {wanted}")
    try:
        model.reshape(wanted)
    except RuntimeError as error:  # OpenVINO's only kind
        raise _mismatch(manifest, f"{path.name} can't take {wanted}") from error


def _logits(model: Any, path: Path, manifest: Manifest) -> Any:
    """Return the output, before the softmax or sigmoid that may be its last step."""
    output = model.get_results()[0].input_value(0)
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Softmax" and node.get_attributes()["axis"] not in {1, 1 - len(output.get_shape())}:
        raise _mismatch(manifest, f"{path.name} ends in a softmax along another axis than 1")
    if kind in {"Softmax", "Sigmoid"}:
        output = node.input_value(0)
    given = output.get_partial_shape()
    wanted = [1, manifest.network.channels]
    if manifest.pipeline == "segmentation":
        wanted += manifest.input.shape[1:]
    if not given.is_static or list(given.to_shape()) != wanted:
        raise _mismatch(manifest, f"{path.name} gives {given}, not {wanted}")
    return output


def _mismatch(manifest: Manifest, what: str) -> WeightsMismatchError:
    return WeightsMismatchError(f"Model folder {manifest.id!r}: {what}.")


def _has_external(message: memoryview, kind: str, depth: int) -> bool:
    """Whether any tensor in an ONNX file is kept in another file."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    for number, value in _fields(message):
        if kind == "tensor" and number == _EXTERNAL_DATA:
            return True
        inner = _MESSAGES[kind].get(number)
        if inner is not None and _has_external(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the fields of a protobuf message; of numbers only their place is of interest."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == _VARINT:
            _, end = _varint(message, position)
        elif wire == _BYTES:
            length, position = _varint(message, position)
            end = position + length
        elif wire in {_FIXED64, _FIXED32}:
            end = position + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError("not a protobuf message")
        if end > len(message):
            raise ValueError("ends too early")
        yield key >> 3, message[position:end] if wire == _BYTES else message[:0]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position
        if shift > 63:
            raise ValueError("not a number")
