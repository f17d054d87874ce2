"""From a pydantic error to one coded sentence with the nearest known key."""

from __future__ import annotations

import types
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from inference.errors import ManifestInvalidError, ModelPackageError, UnknownKeyError


def manifest_error(error: ValidationError, root: type[BaseModel], where: str) -> ModelPackageError:
    """Return the error to raise: unknown keys first, since they often explain the rest."""
    problems = error.errors(include_url=False, include_input=False)
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    key = _dotted(problem["loc"])
    if unknown:
        near = get_close_matches(
            str(problem["loc"][-1]), _known_keys(root, problem["loc"][:-1]), 1, 0.45
        )
        hint = f"; did you mean {near[0]!r}?" if near else "; remove it."
        return UnknownKeyError(f"Model folder {where!r}: unknown key {key!r}{hint}")
    reason = problem["msg"].removeprefix("Value error, ").rstrip(".")
    place = f"{key}: " if key else ""
    return ManifestInvalidError(f"Model folder {where!r}: {place}{reason}.")


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _known_keys(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    model = root
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {tuple, Union, types.UnionType}:
        for part in get_args(annotation):
            if (found := _model_in(part)) is not None:
                return found
    return None
