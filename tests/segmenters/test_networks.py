"""Blocks, generators and discriminator: shapes, and the properties the method leans on."""

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
from cdal.segmenters.diffusion.discriminator import Discriminator
from cdal.segmenters.diffusion.fast import FastGenerator, to_x0
from cdal.segmenters.diffusion.generator import Generator
from cdal.segmenters.diffusion.paper import PaperGenerator
from helpers.segmenters import shake

SIZES = {2: (16, 24), 3: (8, 16, 8)}


def make_generator(kind: str, dims: int, labels: int) -> Generator:
    torch.manual_seed(0)
    if kind == "fast":
        return FastGenerator(dims, 1, labels, (8, 12, 16), 16, 2, latent=4, embedding=16).eval()
    return PaperGenerator(dims, 1, labels, (8, 12), latent=4, embedding=16).eval()


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
    attended = torch.stack([(torch.exp(row := q[i] @ k.T / 2) / torch.exp(row).sum()) @ v for i in range(6)])
    expected = x + (attended @ layer.out.weight.T + layer.out.bias).T.reshape(1, 4, 2, 3)
    torch.testing.assert_close(layer(x), expected)


def test_modulation_depends_on_level_and_latent():
    modulation = Modulation(4, 8)
    level, z = torch.tensor([0.5]), torch.ones(1, 4)
    assert not torch.equal(modulation(level, z), modulation(level / 2, z))
    assert not torch.equal(modulation(level, z), modulation(level, torch.tensor([[1.0, -1, 1, -1]])))


@pytest.mark.parametrize("kind", ["fast", "paper"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("labels", [1, 3])
def test_votes_folded_into_the_batch_are_the_votes_one_by_one(kind: str, dims: int, labels: int, rng: torch.Generator):
    generator = make_generator(kind, dims, labels)
    shake(generator)
    size, votes = SIZES[dims], 3
    image = torch.randn(2, 1, *size, generator=rng)
    x_t = generator.fold(torch.randn(votes * 2, labels, *size, generator=rng))
    level, z = torch.rand(votes * 2, generator=rng), torch.randn(votes * 2, 4, generator=rng)
    with torch.no_grad():
        together = generator.denoise(x_t, level, z, generator.encode(image)).unflatten(0, (votes, 2))
        for v in range(votes):
            for b in range(2):
                i = v * 2 + b
                features = generator.encode(image[b : b + 1])
                alone = generator.denoise(x_t[i : i + 1], level[i : i + 1], z[i : i + 1], features)
                torch.testing.assert_close(together[v, b], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["fast", "paper"])
@pytest.mark.parametrize("what", ["x_t", "level", "z", "image"])
def test_the_prediction_depends_on_everything_it_is_given(kind: str, what: str, rng: torch.Generator):
    generator = make_generator(kind, 2, 1)
    shake(generator)
    given_ = {
        "x_t": torch.randn(1, 1, 16, 24, generator=rng),
        "level": torch.tensor([0.5]),
        "z": torch.randn(1, 4, generator=rng),
        "image": torch.randn(1, 1, 16, 24, generator=rng),
    }

    def predict(values: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return generator.denoise(generator.fold(values["x_t"]), values["level"], values["z"], generator.encode(values["image"]))

    other = given_ | {what: given_[what] * 0.5 + 0.1 * torch.randn(given_[what].shape, generator=rng)}
    assert (predict(given_) - predict(other)).abs().max() > 1e-5


@pytest.mark.parametrize("labels", [1, 3])
def test_the_fast_generator_begins_with_its_coarse_segmentation(labels: int, rng: torch.Generator):
    generator = make_generator("fast", 2, labels)
    features = generator.encode(torch.randn(2, 1, 16, 24, generator=rng))
    x_t, z = torch.randn(2, labels, 16, 24, generator=rng), torch.randn(2, 4, generator=rng)
    assert features.coarse is not None
    x0 = generator.unfold(generator.denoise(generator.fold(x_t), torch.ones(2), z, features))
    torch.testing.assert_close(x0, to_x0(generator.unfold(features.coarse)))


def test_no_layer_of_the_fast_denoiser_is_at_full_resolution(rng: torch.Generator):
    generator = make_generator("fast", 2, 1)
    features = generator.encode(torch.randn(1, 1, 16, 24, generator=rng))
    sizes = []
    for name, module in generator.named_modules():
        if not name.startswith("unet") and not list(module.children()):
            module.register_forward_hook(lambda _m, _i, out: sizes.append(tuple(out.shape[2:])))
    generator.denoise(generator.fold(torch.randn(1, 1, 16, 24)), torch.ones(1), torch.randn(1, 4), features)
    assert {size for size in sizes if size} == {(4, 6)}


@pytest.mark.parametrize(("dims", "labels"), [(2, 1), (3, 3)])
def test_noise_behind_the_map_is_distributed_as_the_map_of_noise(dims: int, labels: int):
    """R R' = W W', W being the matrix of `see`: normal draws are known by their covariance."""
    generator = make_generator("fast", dims, labels)
    root = generator.noise_root().double()
    unit = torch.eye(generator.folded, dtype=torch.float32).reshape(generator.folded, generator.folded, *[1] * dims)
    with torch.no_grad():
        seen = generator.see(unit).flatten(1).double()  # row i is what is seen of the i-th number
    assert root.shape[1] == min(generator.folded, 16)
    torch.testing.assert_close(root @ root.T, seen.T @ seen, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_fold_and_unfold_are_inverse_and_keep_each_label_together(dims: int, rng: torch.Generator):
    generator = make_generator("fast", dims, 3)
    x = torch.randn(2, 3, *SIZES[dims], generator=rng)
    folded = generator.fold(x)
    torch.testing.assert_close(generator.unfold(folded), x)
    torch.testing.assert_close(folded[:, : 4**dims], generator.fold(x[:, :1]))


@pytest.mark.parametrize("dims", [2, 3])
def test_instance_normalisation_is_that_of_pytorch(dims: int, rng: torch.Generator):
    ours, theirs = instance_norm(6), (nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d)(6, affine=True)
    x = 3 * torch.randn(2, 6, *SIZES[dims], generator=rng) + 1
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_discriminator_gives_a_logit_and_features_at_the_chosen_resolution():
    for wanted, size in ((1, (32, 32)), (2, (16, 16)), (4, (8, 8))):
        discriminator = Discriminator(2, 1, (8, 8, 8), 16, fold=1, feature_downsample=wanted)
        logits, features = discriminator(torch.randn(3, 1, 32, 32), torch.randn(3, 1, 32, 32), torch.ones(3))
        assert logits.shape == (3,)
        assert features.shape == (3, 8, *size)


def test_discriminator_learns_to_tell_two_kinds_of_pairs_apart(rng: torch.Generator):
    torch.manual_seed(0)
    discriminator = Discriminator(2, 1, (8, 8), 16, fold=4, feature_downsample=8)
    optimiser = torch.optim.Adam(discriminator.parameters(), 1e-2)
    smooth = torch.ones(8, 1, 16, 16) * torch.linspace(-1, 1, 8)[:, None, None, None]
    for _ in range(60):
        x_t = torch.randn(8, 1, 16, 16, generator=rng)
        noisy = torch.randn(8, 1, 16, 16, generator=rng)
        real, fake = (discriminator(space_to_depth(x, 4), space_to_depth(x_t, 4), torch.ones(8))[0] for x in (smooth, noisy))
        loss = torch.nn.functional.softplus(-real).mean() + torch.nn.functional.softplus(fake).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.3
