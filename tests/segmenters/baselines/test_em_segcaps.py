"""EM routing against a plain loop over its paper, and the loss that goes with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cdal.segmenters.baselines.em_segcaps import MatrixCapsules, em_routing, spread_loss
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import Supervised
from helpers.arrays import normal
from helpers.systems import random_batch, small


def em_routed_in_a_loop(
    V: np.ndarray,
    a: np.ndarray,
    beta_u: np.ndarray,
    beta_a: np.ndarray,
    iterations: int,
    inverse_temperature: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Procedure 1 for votes `[N, M, P]` and activations `[N]`."""
    inputs, outputs, dims = V.shape
    R = np.full((inputs, outputs), 1 / outputs)
    mu, variance, active = np.zeros((outputs, dims)), np.zeros((outputs, dims)), np.zeros(outputs)
    for iteration in range(iterations):
        if iteration:
            for i in range(inputs):
                p = np.zeros(outputs)
                for j in range(outputs):
                    exponent = -sum(
                        (V[i, j, h] - mu[j, h]) ** 2 / (2 * variance[j, h]) for h in range(dims)
                    )
                    p[j] = (
                        active[j]
                        * math.exp(exponent)
                        / math.sqrt(math.prod(2 * math.pi * variance[j]))
                    )
                R[i] = p / p.sum()
        for j in range(outputs):
            r = [R[i, j] * a[i] for i in range(inputs)]
            cost = 0.0
            for h in range(dims):
                mu[j, h] = sum(r[i] * V[i, j, h] for i in range(inputs)) / sum(r)
                variance[j, h] = sum(
                    r[i] * (V[i, j, h] - mu[j, h]) ** 2 for i in range(inputs)
                ) / sum(r)
                cost += (beta_u[j] + math.log(math.sqrt(variance[j, h]))) * sum(r)
            active[j] = 1 / (1 + math.exp(-inverse_temperature * (beta_a[j] - cost)))
    return mu, active


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_em_routing_is_procedure_1_at_each_position(iterations: int):
    """Votes are so far apart that what keeps variances from zero does not show."""
    votes, activation = 100 * normal(2, 6, 3, 4, 2, 2), normal(2, 6, 2, 2, seed=1).sigmoid()
    beta_u, beta_a = normal(3, seed=2), normal(3, seed=3)
    pose, active = em_routing(votes, activation, beta_u, beta_a, iterations, 0.1)
    assert (pose.shape, active.shape) == ((2, 3, 4, 2, 2), (2, 3, 2, 2))
    for sample, y, x in np.ndindex(2, 2, 2):
        at = (sample, ..., y, x)
        expected = em_routed_in_a_loop(
            votes[at].numpy(),
            activation[at].numpy(),
            beta_u.numpy(),
            beta_a.numpy(),
            iterations,
            0.1,
        )
        np.testing.assert_allclose(pose[at], expected[0], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(active[at], expected[1], rtol=1e-4)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=30)
def test_em_routing_takes_over_what_all_inputs_say(
    inputs: int, outputs: int, iterations: int, seed: int
):
    vote = normal(1, 1, outputs, 4, 3, seed=seed)
    activation = normal(1, inputs, 3, seed=seed + 1).sigmoid()
    zero = torch.zeros(outputs, dtype=torch.float64)
    pose, active = em_routing(
        vote.expand(1, inputs, -1, -1, -1), activation, zero, zero, iterations, 0.01
    )
    torch.testing.assert_close(pose, vote[0], rtol=1e-5, atol=1e-5)
    assert (active > 0.5).all()


def test_em_routing_is_more_active_where_inputs_agree():
    votes = normal(1, 8, 2, 4, 1)
    votes[:, :, 0] *= 0.1
    zero = torch.zeros(2, dtype=torch.float64)
    _, active = em_routing(votes, torch.ones(1, 8, 1, dtype=torch.float64), zero, zero, 3, 0.1)
    assert active[0, 0] > active[0, 1] + 0.1


def test_spread_loss_by_hand():
    activation = torch.tensor(
        [[[0.7, 0.2], [0.5, 0.9], [0.1, 0.3]]]
    )  # [B, K, *S]: three classes at two positions
    truth = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    first = (0.4 - (0.7 - 0.5)) ** 2  # 0.7 - 0.1 is more than the margin of 0.4
    second = (0.4 - (0.3 - 0.2)) ** 2 + (0.4 - (0.3 - 0.9)) ** 2
    torch.testing.assert_close(
        spread_loss(activation, truth, 0.4), torch.tensor((first + second) / 2)
    )


def test_matrix_capsules_multiply_poses_from_the_right(rng: torch.Generator):
    """One input type decides alone, so that a matrix from the left passes through, and a pixel sees
    its neighbourhood.
    """
    torch.manual_seed(0)
    layer = MatrixCapsules(1, 3, 1, iterations=2, inverse_temperature=0.01).double()
    pose, left = normal(1, 1, 16, 5, 5), normal(4, 4, seed=1)
    activation = torch.full((1, 1, 5, 5), 0.5, dtype=torch.float64)

    def times_left(poses: Tensor) -> Tensor:
        return torch.einsum("ij,bnjkyx->bnikyx", left, poses.unflatten(2, (4, 4))).flatten(2, 3)

    with torch.no_grad():
        moved, still = layer(times_left(pose), activation)[0], layer(pose, activation)[0]
        torch.testing.assert_close(moved, times_left(still), rtol=1e-5, atol=1e-5)
        one = torch.zeros_like(pose)
        one[..., 2, 2] = 1
        W = layer.votes.weight.unflatten(0, (3, 4))  # output types, columns out, columns in, 3, 3
        expected = torch.einsum(
            "hk,mck->mhc", torch.ones(4, 4, dtype=torch.float64), W[..., 0, 2]
        ).flatten(1)
        torch.testing.assert_close(
            layer(one, activation)[0][0, ..., 3, 1], expected, rtol=1e-5, atol=1e-6
        )


def test_steps_whose_loss_depends_on_the_step_have_no_kind():
    """A recorded step would repeat the margin of EM-SegCaps that it was recorded with; your own
    network may do anything.
    """
    recipe = small("phantoms", "em-segcaps")
    segmenter = build_segmenter(recipe, 1, 2, training=True)
    batch = random_batch(recipe, 2)

    def loss(step: int) -> float:
        torch.manual_seed(0)
        (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(0), step)
        return float(turn.loss)

    with torch.no_grad():
        assert loss(3) != loss(4)
        assert loss(1000) == loss(2000)
    assert [segmenter.kind(step) for step in (0, 3, 999)] == [None] * 3
    assert segmenter.kind(1000) == segmenter.kind(2000) is not None
    assert Supervised(torch.nn.Identity(), 2, alike=False).kind(0) is None
