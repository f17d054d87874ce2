"""Batch norm that was folded into its convolutions, unfolded again.

Start weights for serving have no batch norm: its factors are in the convolutions. Training through
them wants it back, with statistics of the pictures at hand.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

Norm = torch.nn.BatchNorm2d | torch.nn.BatchNorm3d
NORMS = (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


class _Sums:
    """Sums of what comes into one batch norm, by channel."""

    def __init__(self, norm: Norm) -> None:
        self.norm = norm
        self.count = 0
        self.total = torch.zeros(())
        self.squares = torch.zeros(())
        self.handle = norm.register_forward_pre_hook(self._add)

    def _add(self, _: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        values = given[0].detach().double().transpose(0, 1).flatten(1)
        self.count += values.shape[1]
        self.total = self.total.to(values) + values.sum(dim=1)
        self.squares = self.squares.to(values) + values.square().sum(dim=1)

    def settle(self) -> None:
        """Take the statistics; weight and bias change so that the norm does what it did."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0.0)
        with torch.no_grad():
            slope = norm.weight / (norm.running_var + norm.eps).sqrt()
            offset = norm.bias - norm.running_mean * slope
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.weight.copy_(slope * (variance + norm.eps).sqrt())
            norm.bias.copy_(offset + mean * slope)


def measure_norms(network: torch.nn.Module, passes: Iterable[torch.Tensor]) -> None:
    """Give every batch norm the mean and variance of what it sees; the network stays the same.

    Parameters
    ----------
    network
        In evaluation mode.
    passes
        Whatever running the network gives, lazily: each item is one batch that went through.
    """
    sums = [_Sums(norm) for norm in network.modules() if isinstance(norm, NORMS)]
    with torch.no_grad():
        for _ in passes:
            pass
    for each in sums:
        each.handle.remove()
        each.settle()
