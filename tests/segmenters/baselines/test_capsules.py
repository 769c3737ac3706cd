"""Capsules: dynamic routing against plain loops over its paper, losses by hand, the symmetries of
convolution.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.segmenters.baselines.capsules import (
    ConvolutionalCapsules,
    dynamic_routing,
    lengths,
    margin_loss,
    reconstruction_loss,
    shares,
    squash,
)
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import Turn
from helpers.arrays import normal
from helpers.segmenters import shake
from helpers.systems import random_batch, small

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6)


@given(NUMBERS)
def test_squashing_keeps_the_direction_and_makes_lengths_from_zero_to_one(numbers: list[float]):
    s = torch.tensor(numbers, dtype=torch.float64)
    v = squash(s, dim=0)
    squared = float(s.square().sum())
    assert v.norm() < 1
    torch.testing.assert_close(
        v.norm(), torch.tensor(squared / (1 + squared), dtype=torch.float64), rtol=1e-9, atol=1e-8
    )
    torch.testing.assert_close(v * s.norm(), s * v.norm(), rtol=1e-9, atol=1e-9)
    assert (v * s >= 0).all()


def routed_in_a_loop(u: np.ndarray, bias: np.ndarray, iterations: int) -> np.ndarray:
    """Procedure 1 for u `[N, M, D]`."""
    inputs, outputs, _ = u.shape
    b = np.zeros((inputs, outputs))
    v = np.zeros(bias.shape)
    for _ in range(iterations):
        for j in range(outputs):
            s = bias[j].copy()
            for i in range(inputs):
                s += math.exp(b[i, j]) / sum(math.exp(b[i, k]) for k in range(outputs)) * u[i, j]
            v[j] = np.dot(s, s) / (1 + np.dot(s, s)) * s / math.sqrt(np.dot(s, s))
        for i in range(inputs):
            for j in range(outputs):
                b[i, j] += np.dot(u[i, j], v[j])
    return v


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_dynamic_routing_is_procedure_1_at_each_position(iterations: int):
    votes, bias = normal(2, 4, 3, 5, 2, 3), normal(3, 5, seed=1)
    routed = dynamic_routing(votes, bias[:, :, None, None], iterations)
    assert routed.shape == (2, 3, 5, 2, 3)
    for sample, y, x in np.ndindex(2, 2, 3):
        expected = routed_in_a_loop(votes[sample, ..., y, x].numpy(), bias.numpy(), iterations)
        np.testing.assert_allclose(routed[sample, ..., y, x], expected, rtol=1e-6, atol=1e-8)


def test_dynamic_routing_of_two_votes_by_hand():
    """Inputs agree on output 0 with (2, 0) and cancel each other on output 1, so that the second
    iteration leans to output 0.
    """
    votes = torch.tensor(
        [[[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -1.0]]], dtype=torch.float64
    )[None]
    once = dynamic_routing(votes, torch.zeros(1, 2, 2, dtype=torch.float64), 1)[0]
    np.testing.assert_allclose(
        once, [[0.8, 0.0], [0.0, 0.0]], atol=1e-8
    )  # |(2, 0)|² / (1 + |(2, 0)|²) = 4 / 5
    share = 1 / (1 + math.exp(-2 * 0.8))
    twice = dynamic_routing(votes, torch.zeros(1, 2, 2, dtype=torch.float64), 2)[0]
    np.testing.assert_allclose(
        twice, [[(4 * share) ** 2 / (1 + (4 * share) ** 2), 0.0], [0.0, 0.0]], atol=1e-8
    )


def test_gradients_take_the_coefficients_of_routing_as_given():
    votes, bias = normal(1, 4, 3, 5).requires_grad_(), torch.zeros(3, 5, dtype=torch.float64)
    dynamic_routing(votes, bias, 2).sum().backward()
    given_ = votes.detach().clone().requires_grad_()
    agreement = (given_ * dynamic_routing(given_, bias, 1)[:, None]).sum(dim=3)
    coefficients = (agreement.exp() / agreement.exp().sum(dim=2, keepdim=True)).detach()
    squash((coefficients[..., None] * given_).sum(dim=1), dim=2).sum().backward()
    torch.testing.assert_close(votes.grad, given_.grad, rtol=1e-6, atol=1e-9)


def test_margin_loss_by_hand():
    length = torch.tensor([[[0.95, 0.4], [0.3, 0.05]]])  # [B, K, *S]: two classes at two positions
    truth = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    terms = [0.0, 0.5 * (0.4 - 0.1) ** 2, 0.5 * (0.3 - 0.1) ** 2, (0.9 - 0.05) ** 2]
    torch.testing.assert_close(margin_loss(length, truth), torch.tensor(sum(terms) / 4))


@given(st.integers(2, 5), st.integers(0, 100))
@settings(max_examples=20)
def test_shares_are_probabilities_in_the_order_of_the_scores(classes: int, seed: int):
    scores = torch.rand(2, classes, 3, 3, generator=torch.Generator().manual_seed(seed))
    p = shares(scores)
    torch.testing.assert_close(p.sum(dim=1), torch.ones(2, 3, 3))
    torch.testing.assert_close(p[:, :1] * scores, p * scores[:, :1], atol=1e-5, rtol=1e-4)


def test_only_voxels_of_a_class_are_reconstructed():
    truth = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    image, guess = torch.tensor([[[5.0, 1.0, 2.0]]]), torch.tensor([[[0.0, 1.5, 4.0]]])
    torch.testing.assert_close(
        reconstruction_loss(guess, image, truth), torch.tensor((0.25 + 4.0) / (2 + 1))
    )


def capsules(dims: int, shared: bool, **options: object) -> ConvolutionalCapsules:
    torch.manual_seed(0)
    layer = ConvolutionalCapsules(
        dims, (4, 3), (2, 5), kernel=options.pop("kernel", 5), shared=shared, **options
    )
    shake(layer)
    return layer


@given(st.permutations(range(4)))
@settings(max_examples=20)
def test_input_types_that_share_weights_may_change_places(order: list[int]):
    x = normal(2, 4, 3, 6, 6).float()
    layer = capsules(2, shared=True)
    with torch.no_grad():
        torch.testing.assert_close(layer(x[:, order]), layer(x), rtol=1e-4, atol=1e-5)


def test_input_types_with_weights_of_their_own_may_not_change_places_unless_their_weights_do():
    x, order = normal(2, 4, 3, 6, 6).float(), [2, 0, 3, 1]
    layer, moved = capsules(2, shared=False), capsules(2, shared=False)
    with torch.no_grad():
        moved.votes.weight.copy_(layer.votes.weight.unflatten(0, (4, -1))[order].flatten(0, 1))
        moved.votes.bias.copy_(layer.votes.bias.unflatten(0, (4, -1))[order].flatten())
        assert (layer(x[:, order]) - layer(x)).abs().max() > 1e-2
        torch.testing.assert_close(moved(x[:, order]), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dims", "kernel"), [(2, 5), (3, 3)])
@pytest.mark.parametrize("shared", [True, False])
def test_capsules_move_with_the_image(dims: int, kernel: int, shared: bool):
    x, axes = normal(1, 4, 3, *[9] * dims).float(), tuple(range(3, 3 + dims))
    layer = capsules(dims, shared, kernel=kernel)
    inside = (..., *[slice(3, -3)] * dims)
    shift = (1, -1, 1)[:dims]
    with torch.no_grad():
        still, moved = layer(x), layer(x.roll(shift, axes))
    torch.testing.assert_close(moved[inside], still.roll(shift, axes)[inside], rtol=1e-4, atol=1e-5)
    assert (moved[inside] - still[inside]).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("options", "size", "expected"),
    [
        ({"kernel": 5}, (6, 8), (6, 8)),
        ({"kernel": 1}, (6, 8), (6, 8)),
        ({"kernel": 5, "stride": 2}, (6, 8), (3, 4)),
        ({"kernel": 3, "stride": 2, "shared": False}, (6, 8, 4), (3, 4, 2)),
        ({"kernel": 4, "stride": 2, "enlarge": True}, (3, 5), (6, 10)),
        ({"kernel": 4, "stride": 2, "enlarge": True}, (3, 2, 1), (6, 4, 2)),
    ],
)
def test_strides_divide_the_size_and_multiply_it_where_capsules_are_enlarged(
    options: dict[str, object], size: tuple[int, ...], expected: tuple[int, ...]
):
    torch.manual_seed(0)
    layer = ConvolutionalCapsules(len(size), (4, 3), (2, 5), **options)
    out = layer(normal(2, 4, 3, *size).float())
    assert out.shape == (2, 2, 5, *expected)
    assert 0 < lengths(out).max() < 1


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((24, 24), {"kernel": 5}),
        ((24, 24), {"kernel": 5, "stride": 2}),
        ((12, 12), {"kernel": 4, "stride": 2, "enlarge": True}),
        ((10, 10, 10), {"kernel": 3, "shared": False}),
    ],
)
def test_capsules_begin_with_weights_that_keep_lengths_of_a_half(
    size: tuple[int, ...], options: dict[str, object]
):
    """Where N and M capsules have nothing to do with each other, |s| is about 1 and |v| = |s|² / (1
    + |s|²) about a half.
    """
    torch.manual_seed(0)
    layer = ConvolutionalCapsules(len(size), (8, 16), (4, 32), iterations=1, **options)
    x = normal(2, 8, 16, *size).float()
    with torch.no_grad():
        out = lengths(layer(x / (2 * lengths(x)[:, :, None])))
    inside = out[(..., *[slice(3, -3)] * len(size))]
    assert inside.mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("system", "terms", "weights"),
    [
        ("multi-segcaps", {"margin", "dice", "reconstruction"}, ("reconstruction",)),
        ("em-segcaps", {"spread", "dice"}, ()),
        (
            "3d-ucaps",
            {"margin", "dice", "cross_entropy", "reconstruction"},
            ("margin", "reconstruction"),
        ),
    ],
)
def test_capsule_networks_are_trained_with_the_sum_of_their_losses(
    system: str, terms: set[str], weights: tuple[str, ...], rng: torch.Generator
):
    def step(**changes: object) -> Turn:
        recipe = small("hippocampus", system)
        torch.manual_seed(0)
        segmenter = build_segmenter(
            replace(recipe, segmenter=replace(recipe.segmenter, **changes)), 1, 3, training=True
        )
        (turn,) = segmenter.turns(random_batch(recipe, 3), rng, 0)
        return turn

    plain = step()
    assert set(plain.terms) == terms
    assert all(term > 0 for term in plain.terms.values())
    assert float(plain.loss.detach()) == pytest.approx(float(sum(plain.terms.values())))
    for field in weights:
        weight = getattr(small("hippocampus", system).segmenter, field)
        changed = step(**{field: 3 * weight}).terms
        expected = {
            name: float(value) * (3 if name == field else 1) for name, value in plain.terms.items()
        }
        assert {name: float(value) for name, value in changed.items()} == pytest.approx(expected)
