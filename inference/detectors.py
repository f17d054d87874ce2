"""Networks that give boxes: a timm backbone, one feature map at stride 8, one box at each place.

No anchors: every place of the map says how likely it lies near the middle of an object of each
class, and how far the object's four edges are from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTH = 64
"""Channels of the map."""
TYPICAL_SIDE_PX = 24.0
"""Distance to an edge, in canvas pixels, that an untrained network gives."""
_BACKGROUND_LOGIT = -4.0  # begins as if objects were rare, as they are (RetinaNet's prior)
_GROUPS = 8


class Detector(nn.Module):
    """Called with a batch [N, C, H, W] it gives logits, boxes and the map that they come from.

    Logits are [N, A, K]; boxes [N, A, 4] (x_min, y_min, x_max, y_max) in canvas pixels, of A =
    (H / 8) * (W / 8) places; the map is [N, 64, H / 8, W / 8].

    Parameters
    ----------
    outputs
        K, classes of objects.
    channels
        C.
    backbone
        timm's name.
    levels
        Positions of the backbone's maps of stride 8, 16 and 32.
    options
        timm's arguments.
    """

    def __init__(
        self,
        outputs: int,
        channels: int,
        backbone: str,
        levels: tuple[int, int, int],
        options: Mapping[str, Any],
    ) -> None:
        import timm  # needs operators that inference.networks registers first

        super().__init__()
        self.backbone_name = backbone
        self.backbone_options = dict(options)
        self.backbone = timm.create_model(
            backbone,
            pretrained=False,
            features_only=True,
            out_indices=levels,
            in_chans=channels,
            **options,
        )
        widths = self.backbone.feature_info.channels()
        self.lateral = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths)
        self.merge = nn.ModuleList(_block() for _ in widths[1:])
        self.tower = nn.Sequential(_block(), _block())
        self.box_tower = nn.Sequential(_block(), _block())
        self.score = nn.Conv2d(WIDTH, outputs, 1)
        self.edges = nn.Conv2d(WIDTH, 4, 1)
        for layer, bias in ((self.score, _BACKGROUND_LOGIT), (self.edges, 0.0)):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, bias)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See the class."""
        maps = [
            reduce(level) for reduce, level in zip(self.lateral, self.backbone(batch), strict=True)
        ]
        merged = maps[-1]
        for finer, block in zip(reversed(maps[:-1]), self.merge, strict=True):
            wider = functional.interpolate(merged, size=finer.shape[-2:], mode="nearest")
            merged = block(finer + wider)
        features = self.tower(merged)
        logits = self.score(features).flatten(2).transpose(1, 2)
        reach = self.edges(self.box_tower(merged)).clamp(-4.0, 4.0)
        distances = TYPICAL_SIDE_PX * torch.exp(reach).flatten(2).transpose(1, 2)
        points = places(merged, batch.shape[-2] / merged.shape[-2])
        boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
        return logits, boxes, features


def places(features: torch.Tensor, stride: float) -> torch.Tensor:
    """Return x and y of the middle of each place of a map, [1, A, 2], in canvas pixels."""
    rows, columns = features.shape[-2:]
    y = (torch.arange(rows, device=features.device) + 0.5) * stride
    x = (torch.arange(columns, device=features.device) + 0.5) * stride
    grid = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)
    return grid[None].to(features.dtype)


def _block() -> nn.Sequential:
    """Return a convolution with group norm: batches of a detector's training are small."""
    convolution = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(_GROUPS, WIDTH), nn.SiLU())


def _builder(
    backbone: str, levels: tuple[int, int, int]
) -> Callable[[int, int, dict[str, Any]], Detector]:
    def build(outputs: int, channels: int, options: dict[str, Any]) -> Detector:
        return Detector(outputs, channels, backbone, levels, options)

    return build


DETECTORS: Mapping[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    "mobilenetv2": _builder("mobilenetv2_100", (2, 3, 4)),
    "pvt-v2-b0": _builder("pvt_v2_b0", (1, 2, 3)),
}
"""By ``builder_name``: from logits, input channels and options to a network."""
