"""The blocks of generators and discriminator, against PyTorch and plain formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cdal.segmenters.diffusion.blocks import (
    AdaptiveGroupNorm,
    Modulation,
    ResidualBlock,
    SelfAttention,
    depth_to_space,
    instance_norm,
    sinusoidal_embedding,
    space_to_depth,
)
from helpers.diffusion import SIZES
from helpers.segmenters import shake


def test_space_to_depth_is_pixel_unshuffle_in_two_axes(rng: torch.Generator):
    x = torch.randn(2, 3, 8, 12, generator=rng)
    torch.testing.assert_close(space_to_depth(x, 4), torch.pixel_unshuffle(x, 4))
    torch.testing.assert_close(depth_to_space(torch.pixel_unshuffle(x, 4), 4), x)


def test_space_to_depth_keeps_a_block_of_three_axes_together():
    x = torch.arange(4 * 4 * 4).reshape(1, 1, 4, 4, 4).float()
    folded = space_to_depth(x, 2)
    assert folded.shape == (1, 8, 2, 2, 2)
    torch.testing.assert_close(folded[0, :, 1, 0, 1], x[0, 0, 2:4, 0:2, 2:4].flatten())


@given(st.integers(2, 3), st.integers(1, 3), st.sampled_from([1, 2, 4]))
@settings(max_examples=20)
def test_depth_to_space_undoes_space_to_depth(dims: int, channels: int, fold: int):
    x = torch.randn(2, channels, *[fold * (i + 1) for i in range(dims)])
    torch.testing.assert_close(depth_to_space(space_to_depth(x, fold), fold), x)


def test_embedding_is_sines_and_cosines_of_the_level():
    embedding = sinusoidal_embedding(torch.tensor([0.0, 0.25]), 6)
    frequencies = [10_000 ** (-i / 3) for i in range(3)]
    expected = [math.sin(250 * f) for f in frequencies] + [math.cos(250 * f) for f in frequencies]
    torch.testing.assert_close(embedding[1], torch.tensor(expected), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embedding[0], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_adaptive_group_norm_modulates_what_torch_normalises(rng: torch.Generator):
    layer = AdaptiveGroupNorm(8, 5)
    x, embedding = torch.randn(2, 8, 4, 4, generator=rng), torch.randn(2, 5, generator=rng)
    scale, shift = layer.scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
    expected = torch.nn.functional.group_norm(x, layer.norm.num_groups) * (1 + scale) + shift
    torch.testing.assert_close(layer(x, embedding), expected)


def test_residual_block_starts_as_the_identity(rng: torch.Generator):
    x = torch.randn(2, 8, 4, 6, 4, generator=rng)
    torch.testing.assert_close(ResidualBlock(3, 8, 8, 5)(x, torch.randn(2, 5)), x)


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_residual_block_shrinks_odd_sizes_too(size: tuple[int, ...]):
    shape = ResidualBlock(2, 8, 12, 5, stride=2)(torch.randn(1, 8, *size), torch.randn(1, 5)).shape
    assert shape == (1, 12, *[math.ceil(s / 2) for s in size])


def test_self_attention_is_the_plain_formula(rng: torch.Generator):
    layer = SelfAttention(4).double()
    shake(layer)
    x = torch.randn(1, 4, 2, 3, generator=rng, dtype=torch.float64)
    tokens = layer.norm(x).flatten(2)[0].T
    q, k, v = (tokens @ layer.to_qkv.weight.T + layer.to_qkv.bias).split(4, dim=1)
    attended = torch.stack(
        [(torch.exp(row := q[i] @ k.T / 2) / torch.exp(row).sum()) @ v for i in range(6)]
    )
    expected = x + (attended @ layer.out.weight.T + layer.out.bias).T.reshape(1, 4, 2, 3)
    torch.testing.assert_close(layer(x), expected)


def test_modulation_depends_on_level_and_latent():
    modulation = Modulation(4, 8)
    level, z = torch.tensor([0.5]), torch.ones(1, 4)
    assert not torch.equal(modulation(level, z), modulation(level / 2, z))
    assert not torch.equal(
        modulation(level, z), modulation(level, torch.tensor([[1.0, -1, 1, -1]]))
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_instance_normalisation_is_that_of_pytorch(dims: int, rng: torch.Generator):
    ours, theirs = (
        instance_norm(6),
        (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(6, affine=True),
    )
    x = 3 * torch.randn(2, 6, *SIZES[dims], generator=rng) + 1
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
