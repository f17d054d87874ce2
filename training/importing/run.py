"""From a file of weights and a draft to a model folder that verifies, or nothing at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from inference.backends import open_backend
from inference.config import InferenceConfig
from inference.errors import InferenceError
from inference.manifest import MANIFEST_NAME, Manifest
from inference.network_table import ONNX
from inference.networks import build_manifest_network, served
from inference.onnx_graph import final_activation
from inference.registry import ModelPackage, load_model
from inference.weights import save_weights, sha256_of
from training.golden import write_golden
from training.importing.draft import Draft, read_draft
from training.importing.errors import DraftError, RejectedError, SourceError, WeightsDontFitError
from training.importing.folded import fill_folded
from training.importing.monai_bundle import read_bundle
from training.importing.names import fill_network
from training.importing.record import Origin, write_record
from training.importing.tensors import Found, read_source
from training.package import target_folder, written_at_once
from training.progress import Progress
from training.verify import make_golden, verify_folder

_SEED = 1
_LOUD = 1e3
"""How much larger than a picture's values an input is, so that logits leave [0, 1]."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is to be imported.

    Attributes
    ----------
    source
        A file of tensors, an ONNX file, or the folder of a MONAI bundle.
    draft
        The description: a manifest without weights.
    out
        Where the model folder goes.
    key
        Which set of tensors to take, if the file has several.
    """

    source: Path
    draft: Path
    out: Path
    key: str | None = None


def import_model(request: ImportRequest, progress: Progress) -> Path:
    """Write a model folder from weights of others; return it.

    Raises
    ------
    ImportingError
        The draft or the weights can't be used, or don't belong together.
    OutputExistsError
        The folder is there already.
    """
    draft = read_draft(request.draft)
    if request.source.suffix == ".onnx":
        return _import_graph(request, draft, progress)
    return _import_tensors(request, draft, progress)


def _import_tensors(request: ImportRequest, draft: Draft, progress: Progress) -> Path:
    source, file = request.source, request.source
    found = Found({})
    if source.is_dir():
        bundle = read_bundle(source, request.key)
        manifest = draft.manifest(bundle.network)
        _check_input(draft, manifest, bundle.channels, bundle.dims)
        found, file = bundle.found, source / "models" / "model.pt"
    else:
        manifest = draft.manifest()
        if source.suffix != ".npz":
            found = read_source(source, request.key)
    if manifest.network.name == ONNX:
        raise DraftError(f"{draft.file}: network onnx needs an .onnx file, not {source.name}.")
    folder = target_folder(request.out, manifest.id)
    progress.say(f"Fitting {source.name} into {manifest.network.name}")
    network = _build(manifest, draft)
    if file.suffix == ".npz":
        names = fill_folded(network, manifest, file)
    else:
        names = fill_network(network, manifest, found.tensors, file.name)
    _try(network, manifest, draft)
    origin = Origin(source.name, sha256_of(file), names, found.key)
    with written_at_once(folder) as hidden:
        weights = hidden / manifest.weights.file
        manifest = draft.manifest(manifest.network, save_weights(network, weights))
        _finish(hidden, weights, manifest, origin, progress)
    return folder


def _import_graph(request: ImportRequest, draft: Draft, progress: Progress) -> Path:
    source = request.source
    if not source.is_file():
        raise SourceError(f"There is no file {source}.")
    digest = sha256_of(source)
    manifest = draft.manifest(sha256=digest)
    if manifest.network.name != ONNX:
        raise DraftError(f"{draft.file}: an .onnx file needs network: {{name: onnx, channels: …}}.")
    progress.say(f"Reading {source.name}")
    folder = target_folder(request.out, manifest.id)
    with written_at_once(folder) as hidden:
        weights = hidden / manifest.weights.file
        shutil.copyfile(source, weights)
        _check_logits(ModelPackage(hidden, manifest, weights), source.name, draft)
        _finish(hidden, weights, manifest, Origin(source.name, digest, "an ONNX graph"), progress)
    return folder


def _check_input(draft: Draft, manifest: Manifest, channels: int, dims: int) -> None:
    shape = manifest.input.shape
    if shape[0] != channels or len(shape) != dims + 1:
        sides = "slices, rows, columns" if dims == 3 else "rows, columns"
        raise DraftError(
            f"{draft.file}: the bundle's network needs input.shape [{channels}, {sides}], "
            f"not {list(shape)}."
        )


def _build(manifest: Manifest, draft: Draft) -> torch.nn.Module:
    try:
        return build_manifest_network(manifest)
    except InferenceError as error:
        raise DraftError(f"{draft.file}: {str(error).partition(': ')[2]}") from error


def _try(network: torch.nn.Module, manifest: Manifest, draft: Draft) -> None:
    """Run the network once on what the draft says that it takes."""
    module = served(network, manifest.network.name)
    try:
        with torch.inference_mode():
            given = module(torch.zeros(1, *manifest.input.shape))
    except (RuntimeError, ValueError) as error:
        raise DraftError(
            f"{draft.file}: {manifest.network.name} can't take input.shape "
            f"{list(manifest.input.shape)}; sides that are multiples of 32 fit most networks."
        ) from error
    if not all(bool(torch.isfinite(tensor).all()) for tensor in given):
        raise WeightsDontFitError("The network gives values that are no numbers.")


def _check_logits(package: ModelPackage, file: str, draft: Draft) -> None:
    """Refuse a graph that can't be read, or gives probabilities where logits are needed."""
    manifest = package.manifest
    try:
        backend = open_backend(package, InferenceConfig(backend="openvino"))
    except InferenceError as error:
        said = str(error).replace(package.weights.name, file)
        raise WeightsDontFitError(f"{said.partition(': ')[2]}") from error
    import openvino  # the backend has loaded it

    ends_in = final_activation(package.weights, openvino)
    if ends_in is not None and ends_in != manifest.activation:
        raise DraftError(
            f"{draft.file}: activation is {manifest.activation}, but {file} ends in a {ends_in}."
        )
    noise = np.random.default_rng(_SEED).normal(size=(4, *manifest.input.shape))
    (logits, *_) = backend.run((_LOUD * noise).astype(np.float32))
    if logits.min() >= 0.0 and logits.max() <= 1.0:
        raise WeightsDontFitError(
            f"{file} gives values from 0 to 1 whatever it sees: probabilities; export the network "
            "so that it gives logits."
        )


def _finish(
    folder: Path, weights: Path, manifest: Manifest, origin: Origin, progress: Progress
) -> None:
    """Write all that belongs to a model beside its weights, and check the whole."""
    weights.chmod(0o644)  # safetensors makes it readable to its owner only
    values: Mapping[str, Any] = manifest.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")
    write_record(folder, manifest, origin)
    progress.say("Verifying")
    try:
        with TemporaryDirectory() as cache:
            config = InferenceConfig(backend="openvino", cache_dir=Path(cache))
            write_golden(folder, make_golden(load_model(folder), config, _SEED))
    except InferenceError as error:
        raise RejectedError(f"The model can't run: {error}") from error
    for check in verify_folder(folder):
        if not check.is_passed:
            raise RejectedError(f"The model doesn't verify: {check.name}: {check.detail}.")
