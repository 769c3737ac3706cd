"""Stochastic Segmentation Networks: covariance of draws, likelihood by hand, a task with two
answers.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special

from cdal.recipes.probabilistic import SSNSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines import ssn
from cdal.segmenters.baselines.ssn import SSN, LowRankNormal, log_likelihood
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import one_hot
from helpers.arrays import normal
from helpers.modes import SIDE, areas, learn
from helpers.systems import random_batch, small


def segmenter_of(data: str = "phantoms", classes: int = 2) -> SSN:
    torch.manual_seed(0)
    segmenter = build_segmenter(small(data, "ssn"), 1, classes)
    assert isinstance(segmenter, SSN)
    return segmenter.eval()


def test_draws_have_the_mean_and_the_covariance_of_low_rank_and_diagonal():
    mean, factor, variance = (
        normal(2, 3, seed=0),
        normal(4, 2, 3, seed=1),
        normal(2, 3, seed=2).exp(),
    )
    count = 60_000  # as images, so that they are drawn at once
    many = LowRankNormal(*(x.expand(count, *x.shape) for x in (mean, factor, variance)))
    drawn = many.draw(1, torch.Generator().manual_seed(0))[0].flatten(1)
    flat = factor.flatten(1)
    expected = flat.T @ flat + torch.diag(variance.flatten())
    torch.testing.assert_close(drawn.mean(dim=0), mean.flatten(), atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), expected, atol=0.03 * float(expected.max()), rtol=0)


def test_images_are_drawn_independently():
    one = LowRankNormal(torch.zeros(2, 1, 1), torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1))
    drawn = one.draw(4000, torch.Generator().manual_seed(0)).flatten(1)
    assert abs(float(drawn.T.corrcoef()[0, 1])) < 0.06


def test_the_likelihood_is_that_of_plain_loops():
    logits = normal(3, 2, 3, 2, 2)  # 3 draws of 2 images of 3 classes and 4 pixels
    label = torch.tensor([[[0, 2], [1, 1]], [[2, 2], [0, 1]]])
    found = log_likelihood(logits, one_hot(label, 3).double())
    for image in range(2):
        product = np.ones(3)
        for draw, row, column in itertools.product(range(3), range(2), range(2)):
            scores = logits[draw, image, :, row, column].numpy()
            product[draw] *= special.softmax(scores)[label[image, row, column]]
        assert float(found[image]) == pytest.approx(math.log(product.mean()))


def test_the_likelihoods_of_all_labels_add_up_to_1():
    logits = normal(5, 1, 2, 3)
    labels = itertools.product(range(2), repeat=3)
    total = sum(
        float(log_likelihood(logits, one_hot(torch.tensor([label]), 2).double()).exp())
        for label in labels
    )
    assert total == pytest.approx(1)


def test_a_label_of_many_voxels_has_a_finite_likelihood():
    logits = torch.full((20, 1, 2, 100, 100), 0.0)
    likelihood = log_likelihood(logits, one_hot(torch.zeros(1, 100, 100, dtype=torch.int64), 2))
    assert float(likelihood) == pytest.approx(-10_000 * math.log(2), rel=1e-5)


def test_the_loss_is_the_likelihood_for_each_voxel():
    segmenter, batch = segmenter_of(), random_batch(small("phantoms", "ssn"), 2)
    (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(1), 0)
    logits = segmenter.distribution(batch.image).draw(4, torch.Generator().manual_seed(1))
    likelihood = log_likelihood(logits, one_hot(batch.label, 2))
    torch.testing.assert_close(turn.loss, -likelihood.mean() / (32 * 32))


@pytest.mark.parametrize(("data", "classes"), [("phantoms", 2), ("hippocampus", 3)])
def test_the_network_runs_once_and_gives_a_distribution_of_the_logits(
    data: str, classes: int, rng: torch.Generator
):
    segmenter, passes = segmenter_of(data, classes), []
    segmenter.network.register_forward_hook(lambda *_: passes.append(1))
    space = (32, 32) if data == "phantoms" else (16, 32, 16)
    image = torch.randn(2, 1, *space, generator=rng)
    votes = segmenter.sample(image, 4, rng)
    assert len(passes) == 1
    assert len(votes.flatten(1).unique(dim=0)) == 4
    found = segmenter.distribution(image)
    assert found.mean.shape == found.variance.shape == (2, classes, *space)
    assert found.factor.shape == (2, 3, classes, *space)
    assert found.variance.min() > 0


def test_both_of_two_answers_are_learned_and_no_mean_of_them():
    torch.manual_seed(2)
    rng = torch.Generator().manual_seed(2)
    settings = SSNSettings(channels=(8, 8), rank=2, samples=8)
    data = DataSettings(spatial_dims=2, size=(SIDE, SIDE))
    segmenter = ssn.build(settings, data, 1, 2, training=True)
    losses = learn(segmenter, 60, rng)
    assert losses[-10:].mean() < 0.3 * math.log(2) * 16 / SIDE**2
    found = areas(segmenter, 40, rng)
    assert (found == 0).sum() >= 10
    assert (found == 16).sum() >= 10
