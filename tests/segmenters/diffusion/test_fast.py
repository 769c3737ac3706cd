"""The fast generator: coarse first, and all at a quarter of the resolution."""

from __future__ import annotations

import pytest
import torch

from cdal.segmenters.diffusion.fast import to_x0
from helpers.diffusion import make_generator


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
    generator.denoise(
        generator.fold(torch.randn(1, 1, 16, 24)), torch.ones(1), torch.randn(1, 4), features
    )
    assert {size for size in sizes if size} == {(4, 6)}


@pytest.mark.parametrize(("dims", "labels"), [(2, 1), (3, 3)])
def test_noise_behind_the_map_is_distributed_as_the_map_of_noise(dims: int, labels: int):
    """R R' = W W', W being the matrix of `see`: normal draws are known by their covariance."""
    generator = make_generator("fast", dims, labels)
    root = generator.noise_root().double()
    unit = torch.eye(generator.folded, dtype=torch.float32).reshape(
        generator.folded, generator.folded, *[1] * dims
    )
    with torch.no_grad():
        seen = generator.see(unit).flatten(1).double()  # row i is what is seen of the i-th number
    assert root.shape[1] == min(generator.folded, 16)
    torch.testing.assert_close(root @ root.T, seen.T @ seen, rtol=1e-4, atol=1e-6)
