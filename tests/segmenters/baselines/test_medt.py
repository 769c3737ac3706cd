"""The Medical Transformer, its attention against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdal.segmenters.baselines.medt import GatedAxialAttention, MedT
from helpers.arrays import normal


def attention_in_a_loop(
    layer: GatedAxialAttention, x: np.ndarray, table: np.ndarray, scale: dict[str, float]
) -> np.ndarray:
    """The docstring's sum for x `[C, L]`, where each batch normalisation divides by a number of its
    own.
    """
    channels, length = x.shape
    values, keys = layer.values, layer.keys
    g_q, g_k, g_v1, g_v2 = layer.gates.detach().numpy()
    qkv = layer.to_qkv[0].weight.detach().numpy()[:, :, 0] @ x / scale["qkv"]
    y = np.zeros((channels, length))
    for h in range(layer.heads):
        own = qkv[h * 2 * values : (h + 1) * 2 * values]
        q, k, v = own[:keys], own[keys : 2 * keys], own[2 * keys :]
        for i in range(length):
            r = [table[:, i - j + length - 1] for j in range(length)]
            terms = np.zeros(length)
            for j in range(length):
                by_position = g_q * (q[:, i] @ r[j][:keys]) + g_k * (
                    k[:, j] @ r[j][keys : 2 * keys]
                )
                terms[j] = (q[:, i] @ k[:, j] + by_position) / scale["terms"]
            weights = np.exp(terms) / np.exp(terms).sum()
            for c in range(values):
                total = sum(
                    weights[j] * (g_v1 * v[c, j] + g_v2 * r[j][2 * keys + c]) for j in range(length)
                )
                y[h * values + c, i] = total / scale["sums"]
    return y


def gated_attention(
    channels: int, span: int, heads: int
) -> tuple[GatedAxialAttention, dict[str, float]]:
    """With random gates; in evaluation its three normalisations divide by 2, 3 and 5."""
    torch.manual_seed(0)
    layer = GatedAxialAttention(channels, span, heads).double().eval()
    norms = {"qkv": layer.to_qkv[1], "terms": layer.norm_terms, "sums": layer.norm_sums}
    scale = dict(zip(norms, (2.0, 3.0, 5.0), strict=True))
    for name, norm in norms.items():
        norm.eps = 0.0
        norm.running_var.fill_(scale[name] ** 2)
    layer.gates.data = normal(4, seed=2)
    return layer, scale


@pytest.mark.parametrize(("channels", "heads"), [(8, 2), (12, 3), (4, 1)])
def test_gated_axial_attention_is_the_plain_formula(channels: int, heads: int):
    layer, scale = gated_attention(channels, 5, heads)
    x = normal(3, channels, 5)
    with torch.no_grad():
        out = layer(x)
    for sample in range(3):
        expected = attention_in_a_loop(
            layer, x[sample].numpy(), layer.positions.detach().numpy(), scale
        )
        np.testing.assert_allclose(out[sample], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [3, 9])
def test_positions_are_stretched_to_other_lengths_than_in_training(length: int):
    layer, scale = gated_attention(8, 5, 2)
    trained = layer.positions.detach().numpy()
    steps, wanted = np.linspace(-1, 1, trained.shape[1]), np.linspace(-1, 1, 2 * length - 1)
    table = np.stack([np.interp(wanted, steps, row) for row in trained])
    x = normal(2, 8, length)
    with torch.no_grad():
        np.testing.assert_allclose(
            layer(x)[1],
            attention_in_a_loop(layer, x[1].numpy(), table, scale),
            rtol=1e-9,
            atol=1e-12,
        )


class Seen(nn.Module):
    """Gives what it is given, and remembers it."""

    def forward(self, image: Tensor) -> Tensor:
        self.image = image
        return image


class Nothing(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return torch.zeros_like(image)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20)
def test_the_local_branch_sees_a_grid_of_patches_and_gives_them_back_in_place(
    batch: int, channels: int, height: int, width: int
):
    """With branches that do nothing the network gives its image back, and what the local one saw is
    cut from it.
    """
    network = MedT(channels, 2, (32, 32), 8, 2)
    network.whole, network.patches, network.head = Nothing(), Seen(), nn.Identity()
    image = normal(batch, channels, 4 * height, 4 * width)
    torch.testing.assert_close(network(image), image, rtol=0, atol=0)
    patches = network.patches.image.unflatten(0, (batch, 4, 4))
    for row in range(4):
        for column in range(4):
            place = image[
                :, :, row * height : (row + 1) * height, column * width : (column + 1) * width
            ]
            torch.testing.assert_close(patches[:, row, column], place, rtol=0, atol=0)
