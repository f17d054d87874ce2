"""The installed models: every folder in ``checkpoints/``, broken ones reported and skipped."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ModelNotFoundError, ModelPackageError, ModelsFolderError
from inference.gate import check_gate
from inference.manifest import Manifest, load_manifest
from inference.weights import check_weights
from ledger.domain import ModelIdentity

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A model folder whose manifest and digest are right."""

    folder: Path
    manifest: Manifest
    weights: Path

    @property
    def identity(self) -> ModelIdentity:
        """Id, version and digest: what results are signed with."""
        return self.manifest.identity


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A model folder that can't be used, and why."""

    folder: Path
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Registry:
    """What :func:`scan_models` found, both in the order of their ids."""

    models: tuple[ModelPackage, ...] = ()
    broken: tuple[BrokenModel, ...] = ()

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The usable models' manifests, for :func:`inference.routing.route`."""
        return tuple(model.manifest for model in self.models)

    def get(self, model_id: str) -> ModelPackage:
        """Return the model of an id.

        Raises
        ------
        ModelNotFoundError
            There is none, or its folder is broken.
        """
        for model in self.models:
            if model.manifest.id == model_id:
                return model
        for broken in self.broken:
            if broken.folder.name == model_id:
                raise ModelNotFoundError(f"Model {model_id!r} can't be used: {broken.message}")
        known = ", ".join(model.manifest.id for model in self.models) or "none"
        raise ModelNotFoundError(f"No model {model_id!r} is installed; there are: {known}.")


def load_model(folder: Path) -> ModelPackage:
    """Read one model folder and check the digests of its weights and its gate.

    Raises
    ------
    ModelPackageError
        One of its kinds.
    """
    manifest = load_manifest(folder)
    if manifest.gate is not None:
        check_gate(folder, manifest.gate)
    return ModelPackage(folder, manifest, check_weights(folder, manifest))


def scan_models(folder: Path) -> Registry:
    """Look at every folder in `folder`; names that start with ``.`` or ``_`` are passed over.

    Raises
    ------
    ModelsFolderError
        `folder` itself can't be listed.
    """
    try:
        candidates = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise ModelsFolderError(
            f"The folder of models {folder} can't be read ({error.strerror}); correct models_dir."
        ) from error
    models: list[ModelPackage] = []
    broken: list[BrokenModel] = []
    for candidate in candidates:
        if candidate.name.startswith((".", "_")):
            continue
        try:
            models.append(load_model(candidate))
        except ModelPackageError as error:
            _log.warning("model folder %s is skipped: %s", candidate.name, error.code)
            broken.append(BrokenModel(candidate, error.code, str(error)))
    return Registry(tuple(models), tuple(broken))
