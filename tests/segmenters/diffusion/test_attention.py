"""The discriminator's attention map and its controls."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.segmenters.diffusion.attention import attention_map
from helpers.diffusion import KINDS


def test_raw_map_is_the_mean_over_channels(rng: torch.Generator):
    features = torch.randn(2, 5, 4, 4, generator=rng)
    torch.testing.assert_close(
        attention_map(features, (4, 4), "raw", rng)[:, 0], features.mean(dim=1)
    )


@given(
    st.sampled_from(["normalised", "shuffled"]),
    st.integers(0, 100),
    st.sampled_from([(16, 16), (8, 8, 8)]),
)
@settings(max_examples=20)
def test_normalised_maps_have_mean_one_and_are_not_negative(
    kind: str, seed: int, size: tuple[int, ...]
):
    rng = torch.Generator().manual_seed(seed)
    features = 0.01 * torch.randn(3, 5, *[s // 4 for s in size], generator=rng) - 0.01
    A = attention_map(features, size, kind, rng)
    assert A.shape == (3, 1, *size)
    assert A.min() >= 0
    torch.testing.assert_close(A.flatten(1).mean(dim=1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_shuffled_map_has_the_values_of_the_map_in_other_places(rng: torch.Generator):
    features = torch.randn(1, 3, 8, 8, generator=rng)
    plain, shuffled = (
        attention_map(features, (8, 8), kind, rng) for kind in ("normalised", "shuffled")
    )
    torch.testing.assert_close(plain.flatten().sort().values, shuffled.flatten().sort().values)
    assert not torch.allclose(plain, shuffled)


def test_constant_map_is_the_mean_of_the_raw_one(rng: torch.Generator):
    features = torch.randn(2, 3, 8, 8, generator=rng)
    constant = attention_map(features, (16, 16), "constant", rng)
    assert constant.shape == (2, 1, 16, 16)
    torch.testing.assert_close(constant[:, 0, 3, 5], features.mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_flows_through_a_map(kind: str, rng: torch.Generator):
    features = torch.randn(2, 3, 8, 8, generator=rng, requires_grad=True)
    assert not attention_map(features, (16, 16), kind, rng).requires_grad


def test_a_flat_map_is_one(rng: torch.Generator):
    torch.testing.assert_close(
        attention_map(torch.ones(1, 2, 4, 4), (8, 8), "normalised", rng), torch.ones(1, 1, 8, 8)
    )
