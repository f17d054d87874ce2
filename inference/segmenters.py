"""Segmentation networks that recipes train: U-Nets for pictures and volumes, SegFormer.

Every builder takes the number of logits, the number of input channels and the options that
:func:`inference.network_table.check_network` has let through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


def unet_2d(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's plain U-Net, two convolutions at each of five resolutions."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, in_channels=channels, out_channels=outputs, **options)


def unet_3d(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build MONAI's residual U-Net for volumes; each level after the first halves the sides.

    Its first convolution halves them already, so the full resolution costs little.
    """
    from monai.networks.nets import UNet

    widths = options.get("channels", (16, 32, 64, 128))
    strides = (2,) * (len(widths) - 1)
    blocks = options.get("blocks", 1)
    return UNet(3, channels, outputs, widths, strides, num_res_units=blocks)


def mobilenetv2_unet(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a U-Net whose way down is MobileNetV2, so that it can start from ImageNet's weights.

    The way up has instance norm, which needs no statistics.
    """
    from segmentation_models_pytorch import Unet

    network: nn.Module = Unet(
        "tu-mobilenetv2_100",
        encoder_weights=None,
        decoder_channels=(64, 40, 32, 16, 8),
        decoder_use_norm={"type": "instancenorm", "affine": True},
        in_channels=channels,
        classes=outputs,
        **options,
    )
    return network


def segformer_b0(outputs: int, channels: int, options: Mapping[str, Any]) -> nn.Module:
    """Build SegFormer with the encoder MiT-B0 (Xie et al. 2021)."""
    from segmentation_models_pytorch import Segformer

    network: nn.Module = Segformer(
        "mit_b0", encoder_weights=None, in_channels=channels, classes=outputs, **options
    )
    return network


SEGMENTERS: Mapping[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    "unet-2d": unet_2d,
    "unet-3d": unet_3d,
    "mobilenetv2-unet": mobilenetv2_unet,
    "segformer-b0": segformer_b0,
}
