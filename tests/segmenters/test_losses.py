"""Losses against PyTorch, their formulas and plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cdal.evaluation.agreement import distances
from cdal.segmenters.losses import (
    dice_and_cross_entropy,
    dice_and_cross_entropy_of_logits,
    energy_score,
    iou_energy_score,
)
from cdal.segmenters.segmenter import one_hot


def test_cross_entropy_is_that_of_torch(rng: torch.Generator):
    logits = torch.randn(3, 4, 6, 6, generator=rng)
    label = torch.randint(4, (3, 6, 6), generator=rng)
    terms = dice_and_cross_entropy(logits.softmax(dim=1), one_hot(label, 4), cross_entropy=0.5)
    torch.testing.assert_close(terms["cross_entropy"], 0.5 * F.cross_entropy(logits, label))


@pytest.mark.parametrize("classes", [2, 4])
def test_losses_of_logits_are_those_of_their_probabilities(classes: int, rng: torch.Generator):
    logits = torch.randn(3, 1 if classes == 2 else classes, 6, 6, generator=rng)
    p = (
        torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
        if classes == 2
        else logits.softmax(1)
    )
    truth = one_hot(torch.randint(classes, (3, 6, 6), generator=rng), classes)
    of_logits = dice_and_cross_entropy_of_logits(logits, truth, 0.5, 2)
    torch.testing.assert_close(of_logits, dice_and_cross_entropy(p, truth, 0.5, 2))


def test_certainty_that_is_wrong_has_a_gradient():
    """Minus the share of the voxels that are of the class, as for any logit far below 0."""
    logits = torch.full((1, 1, 4, 4), -40.0, requires_grad=True)
    truth = one_hot(torch.eye(4, dtype=torch.long)[None], 2)
    dice_and_cross_entropy_of_logits(logits, truth, dice=0)["cross_entropy"].backward()
    torch.testing.assert_close(logits.grad, -torch.eye(4)[None, None] / 16)


def test_dice_loss_is_the_formula(rng: torch.Generator):
    p = torch.rand(2, 3, 4, 4, generator=rng).softmax(dim=1)
    y = one_hot(torch.randint(3, (2, 4, 4), generator=rng), 3)
    overlap = 2 * (p * y).sum(dim=(0, 2, 3)) / (p + y).sum(dim=(0, 2, 3))
    torch.testing.assert_close(
        dice_and_cross_entropy(p, y)["dice"], 1 - overlap[1:].mean(), rtol=1e-4, atol=1e-5
    )


def test_energy_score_is_the_plain_double_loop(rng: torch.Generator):
    votes, truth = torch.randn(4, 2, 1, 3, 3, generator=rng), torch.randn(2, 1, 3, 3, generator=rng)
    v, y = votes.numpy().astype(float), truth.numpy().astype(float)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return math.sqrt(((a - b) ** 2).mean())

    expected = []
    for b in range(2):
        near = np.mean([distance(v[i, b], y[b]) for i in range(4)])
        apart = np.mean(
            [distance(v[i, b], v[j, b]) for i, j in itertools.permutations(range(4), 2)]
        )
        expected.append(near - apart / 2)
    assert float(energy_score(votes, truth)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_energy_score_prefers_votes_spread_like_the_truth_to_their_mean(rng: torch.Generator):
    """Annotators say +1 or -1 by chance. Votes that do so too score better than votes that all say
    0, or all say +1.
    """
    scores = {"spread": 0.0, "mean": 0.0, "one": 0.0}
    for _ in range(400):
        truth = torch.randint(2, (1, 1, 1, 1), generator=rng).float() * 2 - 1
        spread = torch.randint(2, (2, 1, 1, 1, 1), generator=rng).float() * 2 - 1
        for name, votes in (
            ("spread", spread),
            ("mean", torch.zeros_like(spread)),
            ("one", torch.ones_like(spread)),
        ):
            scores[name] += float(energy_score(votes, truth)) / 400
    assert scores["spread"] < scores["mean"] - 0.2
    assert scores["spread"] < scores["one"] - 0.2


def test_energy_score_of_equal_votes_has_a_finite_gradient():
    votes = torch.zeros(2, 1, 1, 4, 4, requires_grad=True)
    energy_score(votes, torch.zeros(1, 1, 4, 4)).backward()
    assert torch.isfinite(votes.grad).all()


def test_energy_score_needs_two_votes():
    with pytest.raises(ValueError, match="at least 2"):
        energy_score(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_iou_energy_score_of_hard_masks_is_that_of_the_generalised_energy_distance(
    rng: torch.Generator,
):
    """Large masks, so that the added voxels hardly count; `distances` is NumPy on class masks."""
    votes = (torch.rand(4, 1, 1, 400, 400, generator=rng) < torch.rand(4, 1, 1, 1, 1)).float()
    truth = (torch.rand(1, 1, 400, 400, generator=rng) < 0.4).float()
    v, y = votes[:, 0, 0].numpy().astype(int), truth[:, 0].numpy().astype(int)
    apart = distances(v, v, 2).sum() / 12  # of ordered pairs of different votes
    expected = distances(v, y, 2).mean() - apart / 2
    assert float(iou_energy_score(votes, truth)) == pytest.approx(expected, abs=1e-3)


def test_iou_energy_score_prefers_empty_and_whole_votes_to_faint_ones(rng: torch.Generator):
    """Half of the annotators drew an object, the others nothing."""
    box = torch.zeros(1, 1, 16, 16)
    box[..., 4:12, 4:12] = 1
    scores = {"modes": 0.0, "faint": 0.0, "whole": 0.0}
    for _ in range(300):
        truth = box * torch.randint(2, (1, 1, 1, 1), generator=rng)
        drawn = box[None] * torch.randint(2, (2, 1, 1, 1, 1), generator=rng)
        for name, votes in (
            ("modes", drawn),
            ("faint", 0.5 * box[None].expand(2, -1, -1, -1, -1)),
            ("whole", box[None].expand(2, -1, -1, -1, -1)),
        ):
            scores[name] += float(iou_energy_score(votes, truth)) / 300
    assert scores["modes"] < min(scores["faint"], scores["whole"]) - 0.1


def test_iou_energy_score_moves_empty_votes(rng: torch.Generator):
    votes = torch.full((2, 1, 1, 8, 8), 1e-3, requires_grad=True)
    iou_energy_score(votes, torch.ones(1, 1, 8, 8)).backward()
    assert float(votes.grad.max()) < 0
    with pytest.raises(ValueError, match="at least 2"):
        iou_energy_score(votes[:1], torch.ones(1, 1, 8, 8))
