"""Options of recipes that change what is learnt from, each alone."""

from __future__ import annotations

import numpy as np
import torch

from inference.manifest import InputSpec
from inference.operators import ready_torchvision
from inference.volume_input import seen_slices
from training.norms import measure_norms
from training.recipe import AugmentSpec


def test_measured_norms_leave_the_network_as_it_was_and_know_what_they_see() -> None:
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(4)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), norm, torch.nn.ReLU()).eval()
    torch.nn.init.normal_(norm.bias)
    pictures = torch.randn(16, 3, 12, 12) * 3 + 1
    before = network(pictures)
    measure_norms(network, (network(part) for part in pictures.split(4)))
    seen = network[0](pictures)
    assert torch.allclose(network(pictures), before, atol=1e-4)
    assert torch.allclose(norm.running_mean, seen.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen.var(dim=(0, 2, 3), correction=0), rtol=1e-3)
    network.train()
    assert torch.allclose(network(pictures), before, atol=1e-2)  # its batch is what was measured


def test_mixed_pictures_show_shares_of_their_classes() -> None:
    ready_torchvision()
    from training.augment import build_mix

    torch.manual_seed(0)
    black_and_white = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 16, 16)
    for spec in (AugmentSpec(mixup=1.0), AugmentSpec(cutmix=1.0)):
        mixed, shares = build_mix(spec)(black_and_white, torch.eye(2))
        assert torch.allclose(mixed.mean(dim=(1, 2, 3)), shares[:, 1], atol=0.05)
        assert torch.allclose(shares.sum(dim=1), torch.ones(2))
        assert 0.0 < shares[0, 0] < 1.0
    same, truth = build_mix(AugmentSpec())(black_and_white, torch.eye(2))
    assert torch.equal(same, black_and_white)
    assert torch.equal(truth, torch.eye(2))


def test_slices_are_seen_between_their_neighbours() -> None:
    spec = InputSpec(
        shape=(3, 8, 8),
        unit="series",
        neighbours=True,
        color="gray",
        resize="letterbox",
        mean=(0.5,),
        std=(0.5,),
    )
    volume = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((3, 8, 8), np.float32)
    found = np.stack(list(seen_slices(volume, spec)))
    assert found[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    alone = spec.model_copy(update={"neighbours": False})
    np.testing.assert_array_equal(np.stack(list(seen_slices(volume, alone))), volume)
    single = np.stack(list(seen_slices(volume[2:], spec)))
    assert single[:, :, 0, 0].tolist() == [[2, 2, 2]]
