"""The discriminator: shapes, and that it learns."""

from __future__ import annotations

import torch

from cdal.segmenters.diffusion.blocks import (
    space_to_depth,
)
from cdal.segmenters.diffusion.discriminator import Discriminator


def test_discriminator_gives_a_logit_and_features_at_the_chosen_resolution():
    for wanted, size in ((1, (32, 32)), (2, (16, 16)), (4, (8, 8))):
        discriminator = Discriminator(2, 1, (8, 8, 8), 16, fold=1, feature_downsample=wanted)
        logits, features = discriminator(
            torch.randn(3, 1, 32, 32), torch.randn(3, 1, 32, 32), torch.ones(3)
        )
        assert logits.shape == (3,)
        assert features.shape == (3, 8, *size)


def test_discriminator_learns_to_distinguish_two_kinds_of_pairs(rng: torch.Generator):
    torch.manual_seed(0)
    discriminator = Discriminator(2, 1, (8, 8), 16, fold=4, feature_downsample=8)
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-2)
    smooth = torch.ones(8, 1, 16, 16) * torch.linspace(-1, 1, 8)[:, None, None, None]
    for _ in range(60):
        x_t = torch.randn(8, 1, 16, 16, generator=rng)
        noisy = torch.randn(8, 1, 16, 16, generator=rng)
        real, fake = (
            discriminator(space_to_depth(x, 4), space_to_depth(x_t, 4), torch.ones(8))[0]
            for x in (smooth, noisy)
        )
        loss = (
            torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
