"""Figures, curves and card of a shipped model, written anew from a fresh evaluation.

For models that were made before a figure was added: nothing is trained, and how the model was made
stays as recorded.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from inference.registry import ModelPackage
from training.card import write_card
from training.errors import RecordMismatchError
from training.gate_record import record_gate
from training.package import write_json
from training.page import recorded_figures, recorded_history
from training.recipe import Recipe
from training.run import CURVES_NAME
from training.task import Evaluation
from training.verify import CARD_NAME, METRICS_NAME


def refresh_checkpoint(package: ModelPackage, recipe: Recipe, evaluation: Evaluation) -> None:
    """Replace ``metrics.json``, ``curves.png`` and ``MODEL_CARD.md`` of a model's folder.

    Raises
    ------
    RecordMismatchError
        The folder records nothing, another split, or another number of pictures.
    """
    folder = package.folder
    recorded = recorded_figures(folder)
    fresh = evaluation.record
    if not recorded.get("how"):
        raise RecordMismatchError(
            f"Model {package.manifest.id!r} doesn't record how it was made, so there is nothing to "
            "refresh; only models made by 'pacsight train' can be saved."
        )
    for key in ("split", "n"):
        if fresh[key] != recorded[key]:
            raise RecordMismatchError(
                f"The record of {package.manifest.id!r} has {key} {recorded[key]}, this evaluation "
                f"{fresh[key]}; save an evaluation of the same pictures."
            )
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as hidden:
        draft = Path(hidden)
        (draft / package.weights.name).symlink_to(
            package.weights.resolve()
        )  # the card has its size
        record = {**recorded, **fresh}
        write_json(draft / METRICS_NAME, record)
        evaluation.draw(draft / CURVES_NAME, recorded_history(recorded))
        write_card(draft, package.manifest, recipe, record)
        if "gate" in record:
            record_gate(draft, record["gate"])  # which writes its section into the card
        for name in (CURVES_NAME, METRICS_NAME, CARD_NAME):
            shutil.move(draft / name, folder / name)
