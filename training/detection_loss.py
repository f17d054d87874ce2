"""What a detector of :mod:`inference.detectors` is told about each place of its map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data.box_utils import box_pair_giou
from torch.nn import functional

from inference.detectors import places

CORE = 0.5
"""Places in this share of a box's ellipse stand for the box."""
EDGE = 0.9
"""Places between the core and this share of the ellipse are not asked."""
FOCUS = 1.5
"""Power by which places that are right already count less (focal loss)."""
EMPTY_WEIGHT = 0.75
FEWEST = 4
"""Places that a batch's losses are shared among at least."""


def detection_loss(
    logits: torch.Tensor,
    boxes: torch.Tensor,
    features: torch.Tensor,
    truth: Sequence[torch.Tensor],
    channels: Sequence[int],
    height: int,
) -> torch.Tensor:
    """Return class cross-entropy plus box regression (smooth L1 and generalised IoU).

    A place's class target is the overlap of its box with the true one (quality focal loss), so that
    of several boxes of an object the best has the highest score.

    Parameters
    ----------
    logits, boxes, features
        As a detector gives them.
    truth
        The boxes of each picture, [M, 4] in canvas pixels, on the CPU.
    channels
        The logit of each picture's boxes.
    height
        Rows of the canvas.
    """
    # What each place stands for is small work for the CPU: on a GPU it would be many tiny steps.
    points = places(torch.empty(features.shape), height / features.shape[-2])[0]
    stands_for = torch.stack([assign(own, points) for own in truth])
    pictures, rows = torch.nonzero(stands_for >= 0, as_tuple=True)
    pairs = zip(pictures.tolist(), stands_for[pictures, rows].tolist(), strict=True)
    wanted = torch.stack([truth[picture][box] for picture, box in pairs] or [torch.empty(0)])
    wanted = wanted.reshape(-1, 4).to(boxes.device)
    numbers = torch.tensor(channels)[pictures].to(boxes.device)
    asked = (stands_for != BETWEEN).float().to(boxes.device)
    pictures, rows = pictures.to(boxes.device), rows.to(boxes.device)
    given = boxes[pictures, rows]
    targets = torch.zeros_like(logits)
    targets[pictures, rows, numbers] = _overlap(given.detach(), wanted).clamp(min=0.05)
    count = max(FEWEST, len(wanted))
    right = (targets - torch.sigmoid(logits).detach()).abs() ** FOCUS
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weights = asked[..., None] * torch.where(targets > 0, 1.0, EMPTY_WEIGHT)
    loss = 2.0 * (entropy * right * weights).sum() / count
    if len(wanted):
        loss = loss + _regression(given, wanted) / count
    return loss


NOTHING, BETWEEN = -1, -2


def assign(boxes: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return which box each place stands for, [A]; ``NOTHING``, or ``BETWEEN`` near an edge.

    Of nested boxes the smallest has the place.

    Parameters
    ----------
    boxes
        [M, 4].
    points
        [A, 2], x and y of the places.
    """
    found = torch.full((len(points),), NOTHING, device=points.device)
    step = (points[1] - points[0]).abs().max()
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    for number in torch.argsort(sizes, descending=True).tolist():
        middle = (boxes[number, :2] + boxes[number, 2:]) / 2
        half = (boxes[number, 2:] - boxes[number, :2]) / 2
        away = (points - middle).abs()
        edge = ((away / half.clamp(min=1.0)) ** 2).sum(dim=1) < EDGE**2
        core = ((away / torch.maximum(half * CORE, step * 0.8)) ** 2).sum(dim=1) < 1.0
        found[edge & (found == NOTHING)] = BETWEEN
        found[core] = number
    return found


def _regression(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    sizes = (wanted[:, 2:] - wanted[:, :2]).repeat(1, 2).clamp(min=8.0)
    distance = functional.smooth_l1_loss(given / sizes, wanted / sizes, reduction="none", beta=0.1)
    return (1.0 - torch.as_tensor(box_pair_giou(given, wanted))).sum() + distance.sum()


def _overlap(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return intersection over union of pairs, [N]."""
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp(min=0.0).prod(dim=1)
    areas = [(box[:, 2:] - box[:, :2]).prod(dim=1) for box in (one, other)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)
