"""Segmentation networks for weights that others have trained.

Every builder takes the number of logits, the number of input channels and the options that
:func:`inference.network_table.check_network` has let through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn


def monai_unet(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's residual U-Net (``monai.networks.nets.UNet``), 2D or 3D."""
    from monai.networks.nets import UNet

    return UNet(in_channels=channels, out_channels=outputs, **options)


def monai_basic_unet(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's plain U-Net (``monai.networks.nets.BasicUNet``), 2D or 3D."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(in_channels=channels, out_channels=outputs, **options)


def monai_segresnet(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's residual encoder and decoder (``monai.networks.nets.SegResNet``)."""
    from monai.networks.nets import SegResNet

    return SegResNet(in_channels=channels, out_channels=outputs, **options)


def wnet(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build two small U-Nets in a row (Galdran et al. 2022, "Little W-Net")."""
    return WNet(outputs, channels, **options)


class WNet(nn.Module):
    """The second U-Net sees the image again, beside the logits of the first.

    Parameters
    ----------
    outputs
        Logits of each of the two.
    channels
        Of the image, [N, C, H, W]; H and W are multiples of four.
    widths
        Feature maps of each level, from the full resolution down.
    """

    def __init__(self, outputs: int, channels: int, widths: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.unet1 = _SmallUNet(channels, outputs, widths)
        self.unet2 = _SmallUNet(channels + outputs, outputs, widths)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of the second U-Net, [N, K, H, W]."""
        draft = self.unet1(batch)
        refined: torch.Tensor = self.unet2(torch.cat([batch, draft], dim=1))
        return refined


class _SmallUNet(nn.Module):
    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.first = _Residual(channels, widths[0])
        self.down_path = nn.ModuleList(_Residual(upper, lower) for upper, lower in steps)
        self.up_path = nn.ModuleList(_Up(lower, upper) for upper, lower in reversed(steps))
        self.final = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        levels = [self.first(batch)]
        for down in self.down_path:
            levels.append(down(nn.functional.max_pool2d(levels[-1], 2)))
        features = levels.pop()
        for up in self.up_path:
            features = up(features, levels.pop())
        logits: torch.Tensor = self.final(features)
        return logits


class _Residual(nn.Module):
    """Two convolutions, each with ReLU before its batch norm, and a 1 x 1 convolution past them."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.block = nn.Sequential(*_convolution(channels, width), *_convolution(width, width))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.block(batch) + self.shortcut(batch)
        return total


class _Bridge(nn.Module):
    """One convolution on the way across, from the way down to the way up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_convolution(width, width))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        bridged: torch.Tensor = self.block(batch)
        return bridged


class _Larger(nn.Module):
    """Twice the rows and columns."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ConvTranspose2d(channels, width, 2, stride=2))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        larger: torch.Tensor = self.block(batch)
        return larger


class _Up(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up_layer = _Larger(channels, width)
        self.conv_layer = _Residual(2 * width, width)
        self.conv_bridge_layer = _Bridge(width)

    def forward(self, batch: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
        joined = torch.cat([self.up_layer(batch), self.conv_bridge_layer(across)], dim=1)
        features: torch.Tensor = self.conv_layer(joined)
        return features


def _convolution(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)


IMPORTED_SEGMENTERS: Mapping[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    "wnet": wnet,
    "monai-unet": monai_unet,
    "monai-basic-unet": monai_basic_unet,
    "monai-segresnet": monai_segresnet,
}
