"""Fitting the gate of a model: what its training pictures look like, and what is too far from it.

Limits are set on pictures that a fold of the fit has not seen, whole groups at a time, so that they
hold for new pictures. A gate is sure about the kinds of pictures that it was fitted against; other
kinds are left to the distance, which is less sure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.descriptor import block_weights, describe, floors
from inference.gate import Gate, clipped
from inference.gate_spec import GateSpec
from training.errors import GateDataError
from training.gate_changes import generated
from training.gate_data import (
    Listed,
    Looks,
    as_it_is,
    list_pictures,
    looks_of,
    with_harmless,
)
from training.progress import Progress
from training.recipe import Recipe

GATE_NAME = "gate.safetensors"
DIRECTIONS = 48
"""Most main directions of the training pictures that are kept."""
FOLDS = 4
GENERATED = 400
PER_FOLDER = 250
"""Most pictures of another folder that are fitted against, and that are judged."""
MINIMUM_PICTURES, MAXIMUM_PICTURES = 8, 700
"""Training pictures that a gate is fitted on; of more, so many are drawn."""
OWN_REFUSED = 0.003
"""Share of unseen training pictures, harmlessly changed ones included, beyond each limit."""
DISTANCE_MARGIN, CLIPPED_FACTOR = 1.2, 1.2
SHARPNESS_MARGIN, CLIPPED_MARGIN = 0.06, 0.05
ROOM = 0.35
FEW = 8.0
"""With so few groups margins are about twice as wide: few pictures say little about others."""
_RIDGE = 0.02
_STRENGTH, _CLASSIFIER_SCALE = 0.1, 10.0
"""Inverse regularisation of the classifier, and the size of its inputs' blocks."""

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OtherKind:
    """A folder with pictures of another kind: those to fit against, and those to judge by."""

    fitted: Looks
    judged: Looks


@dataclass(frozen=True, slots=True)
class GateData:
    """A model's own training and validation pictures, and other kinds by their folder's name."""

    train: tuple[Listed, ...]
    val: tuple[Listed, ...]
    others: Mapping[str, OtherKind]


def gate_data(
    data: Path, recipe: Recipe | None, others: Mapping[str, OtherKind] | None = None
) -> GateData:
    """List the pictures of a model's data folder and of those that its recipe adds.

    Without validation pictures some of the training pictures are set apart.

    Raises
    ------
    DataError
        A folder can't be used, there are too few training pictures, or none to judge by.
    """
    spec = recipe.data if recipe is not None else None
    own = list_pictures(data, spec.layout if spec else None)
    folders = [data / also.folder for also in spec.also] if spec else []
    added = [item for folder in folders for item in list_pictures(folder)]
    if not any(item.split == "val" for item in own):
        own = _with_validation(own)
    train = tuple(item for item in (*own, *added) if item.split == "train")
    if len(train) < MINIMUM_PICTURES:
        raise GateDataError(
            f"{data} has {len(train)} training pictures; a gate needs at least {MINIMUM_PICTURES}."
        )
    val = tuple(item for item in own if item.split == "val")
    if not val:
        raise GateDataError(f"{data} has no validation pictures to judge the gate by.")
    return GateData(train, val, others or {})


def _with_validation(pictures: tuple[Listed, ...]) -> tuple[Listed, ...]:
    """Set every sixth group of training pictures apart, to judge the gate by."""
    groups = sorted({item.group for item in pictures if item.split == "train"})
    apart = set(groups[::6]) if len(groups) > 1 else set()
    return tuple(
        replace(item, split="val") if item.split == "train" and item.group in apart else item
        for item in pictures
    )


def other_kind(folder: Path, progress: Progress) -> OtherKind:
    """Describe pictures of another kind: training pictures to fit, validation pictures to judge by.

    Raises
    ------
    DataError
        The folder can't be used.
    """
    random = np.random.default_rng(0)
    parts = []
    for split in ("train", "val"):
        items = [item for item in list_pictures(folder) if item.split == split]
        chosen = [items[row] for row in random.permutation(len(items))[:PER_FOLDER]]
        parts.append(looks_of(chosen, progress, as_it_is, f"Gate: {folder.name}, {split}"))
    return OtherKind(*parts)


def fit_gate(data: GateData, progress: Progress, seed: int) -> tuple[Gate, GateSpec]:
    """Fit a gate and its limits; the digest in the result is not yet the file's.

    Raises
    ------
    PictureError
        A picture can't be read.
    """
    random = np.random.default_rng(seed)
    change = with_harmless(random, is_volume=data.train[0].is_volume)
    drawn = random.permutation(len(data.train))[:MAXIMUM_PICTURES]
    chosen = [data.train[row] for row in sorted(drawn)]
    own = looks_of(chosen, progress, change, "Gate: training pictures", has_neighbours=True)
    nothing = np.stack([describe(generated(random)) for _ in range(GENERATED)])
    foreign = np.concatenate(
        [nothing, *(kind.fitted.descriptions for kind in data.others.values())]
    )
    return _fitted(own.descriptions, foreign), _limits(own, foreign, random)


def _limits(own: Looks, foreign: Numbers, random: np.random.Generator) -> GateSpec:
    """Return the limits that unseen training pictures keep, but for a small share of each."""
    distances, likenesses, foreign_likenesses = _unseen(own, foreign, random)
    slack = FEW / len(set(own.groups.tolist()))
    lowest = float(np.quantile(likenesses, OWN_REFUSED)) - slack
    highest = float(np.quantile(foreign_likenesses, 1.0 - OWN_REFUSED))
    black, white = (
        float(np.quantile(shares, 1.0 - OWN_REFUSED)) * CLIPPED_FACTOR
        + CLIPPED_MARGIN * (1.0 + slack)
        for shares in ([seen.black for seen in own.measures], [seen.white for seen in own.measures])
    )
    unchanged = own.measures[::2]  # each picture is followed by its harmless change
    least_sharp = np.quantile([seen.sharpness for seen in unchanged], OWN_REFUSED)
    farthest = float(np.quantile(distances, 1.0 - OWN_REFUSED))
    return GateSpec(
        file=GATE_NAME,
        sha256="0" * 64,
        maximum_distance=round(farthest * (DISTANCE_MARGIN + slack), 3),
        # Where there is room between both, the limit is nearer to the foreign ones.
        minimum_likeness=round(min(lowest, highest + ROOM * (lowest - highest)), 3),
        minimum_sharpness=round(float(least_sharp) - SHARPNESS_MARGIN * (1.0 + slack), 3),
        maximum_black=round(min(1.0, black), 3),
        maximum_white=round(min(1.0, white), 3),
    )


def _unseen(
    own: Looks, foreign: Numbers, random: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """Return distances and likenesses of own, and likenesses of foreign pictures, left out once."""
    _, member_of = np.unique(own.groups, return_inverse=True)
    fold_of = random.permutation(int(member_of.max()) + 1)[member_of] % FOLDS
    foreign_fold_of = random.permutation(len(foreign)) % FOLDS
    distances, likenesses = np.zeros((2, len(own)), np.float32)
    foreign_likenesses = np.zeros(len(foreign), np.float32)
    for fold in range(FOLDS):
        is_out, is_foreign_out = fold_of == fold, foreign_fold_of == fold
        if not is_out.any():
            continue
        gate = _fitted(own.descriptions[~is_out], foreign[~is_foreign_out])
        distances[is_out] = gate.distances(own.descriptions[is_out])
        likenesses[is_out] = gate.likenesses(own.descriptions[is_out])
        foreign_likenesses[is_foreign_out] = gate.likenesses(foreign[is_foreign_out])
    return distances, likenesses, foreign_likenesses


def _fitted(own: Numbers, foreign: Numbers) -> Gate:
    """Fit the statistics of `own`, and the classifier against `foreign`, each [N, SIZE]."""
    from sklearn.decomposition import PCA

    center = own.mean(axis=0)
    scale = np.sqrt(own.var(axis=0) + floors() ** 2)
    scaled = (own - center) / scale * block_weights()
    count = max(1, min(DIRECTIONS, len(own) // 4))
    axes = PCA(count, svd_solver="covariance_eigh").fit(scaled)
    variances = axes.explained_variance_
    outside = max(float(scaled.var(axis=0).sum() - variances.sum()), 1e-3)
    weights, bias = _classifier(own, foreign, center, scale)
    tensors = (center, scale, axes.components_, variances + _RIDGE, [outside], weights, [bias])
    return Gate(*(np.asarray(tensor, np.float32) for tensor in tensors))


def _classifier(
    own: Numbers, foreign: Numbers, center: Numbers, scale: Numbers
) -> tuple[Numbers, float]:
    """Tell own from foreign pictures; both kinds count alike, whatever their number."""
    from sklearn.linear_model import LogisticRegression

    factors = block_weights() * np.float32(_CLASSIFIER_SCALE)
    inputs = clipped(np.concatenate([own, foreign]), center, scale) * factors
    truth = np.repeat([1, 0], [len(own), len(foreign)])
    model = LogisticRegression(C=_STRENGTH, max_iter=200, class_weight="balanced")
    model.fit(inputs, truth)
    return model.coef_[0] * factors, float(model.intercept_[0])
