"""Probabilistic U-Net: its divergence against PyTorch's, its loss by hand, its latent in the
paper's form, and a task with two answers.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cdal.recipes.probabilistic import ProbUNetSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.baselines import prob_unet
from cdal.segmenters.baselines.prob_unet import Normal, ProbUNet, kl_divergence
from cdal.segmenters.build import build_segmenter
from helpers.arrays import normal
from helpers.modes import SIDE, areas, learn
from helpers.systems import random_batch, small


def prob(data: str = "phantoms", classes: int = 2) -> ProbUNet:
    torch.manual_seed(0)
    segmenter = build_segmenter(small(data, "prob-unet"), 1, classes)
    assert isinstance(segmenter, ProbUNet)
    return segmenter.eval()


def pytorchs_divergence(*normals: Normal) -> Tensor:
    first, second = (
        torch.distributions.Normal(one.mean, one.log_deviation.exp()) for one in normals
    )
    return torch.distributions.kl_divergence(first, second).sum(dim=1)


def test_the_divergence_of_two_normals_is_pytorchs():
    first, second = (Normal(normal(3, 5, seed=2 * i), normal(3, 5, seed=2 * i + 1)) for i in (0, 1))
    torch.testing.assert_close(kl_divergence(first, second), pytorchs_divergence(first, second))
    torch.testing.assert_close(kl_divergence(first, first), torch.zeros(3, dtype=torch.float64))


def test_z_is_drawn_from_the_normal():
    mean, deviation = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    many = Normal(mean.expand(40_000, 2), deviation.log().expand(40_000, 2))
    drawn = many.draw(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), deviation, atol=0.05, rtol=0)


@pytest.mark.parametrize(("data", "classes"), [("phantoms", 2), ("hippocampus", 3)])
def test_z_is_appended_to_the_last_features_at_every_voxel(data: str, classes: int):
    """As the paper has it: one convolution of both side by side, not two that are added."""
    network = prob(data, classes).network.double()
    space = (32, 32) if data == "phantoms" else (16, 32, 16)
    z, features = normal(2, 2, seed=1), []
    handle = network.unet.head.register_forward_pre_hook(lambda _, given: features.append(given[0]))
    with torch.no_grad():
        found = network.combine(network.unet(normal(2, 1, *space)), z)
        handle.remove()
        ones = [1] * len(space)
        spread = z.reshape(2, 2, *ones).expand(2, 2, *space)
        weight = torch.cat(
            [network.unet.head.weight, network.of_latent.weight.reshape(8, 2, *ones)], dim=1
        )
        convolve = F.conv2d if len(space) == 2 else F.conv3d
        h = convolve(torch.cat([features[0], spread], dim=1), weight, network.unet.head.bias)
        h = F.leaky_relu(convolve(F.leaky_relu(h), network.middle.weight, network.middle.bias))
        expected = convolve(h, network.head.weight, network.head.bias)
    assert found.shape == (2, classes, *space)
    torch.testing.assert_close(found, expected)


def test_the_loss_is_that_of_the_paper_for_each_voxel():
    segmenter, batch = prob(), random_batch(small("phantoms", "prob-unet"), 2)
    network, truth = segmenter.network, F.one_hot(batch.label, 2).movedim(-1, 1).float()
    (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(3), 0)
    posterior = network.posterior(torch.cat([batch.image, truth], dim=1))
    prior = network.prior(batch.image)
    noise = torch.randn(2, 2, generator=torch.Generator().manual_seed(3))
    z = posterior.mean + posterior.log_deviation.exp() * noise
    logits = network.combine(network.unet(batch.image), z)
    cross_entropy = F.cross_entropy(logits, batch.label, reduction="sum") / 2
    divergence = torch.distributions.kl_divergence(
        *(
            torch.distributions.Normal(one.mean, one.log_deviation.exp())
            for one in (posterior, prior)
        )
    )
    loss = (cross_entropy + 10 * divergence.sum() / 2) / (32 * 32)
    torch.testing.assert_close(turn.loss, loss)


def test_votes_need_neither_the_label_nor_a_second_pass_of_the_unet(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    segmenter, passes = prob(), []
    for name in ("unet", "prior", "posterior"):
        getattr(segmenter.network, name).register_forward_hook(
            lambda *_, name=name: passes.append(name)
        )
    votes = segmenter.sample(torch.randn(2, 1, 32, 32, generator=rng), 5, rng)
    assert sorted(passes) == ["prior", "unet"]
    assert len(votes.flatten(1).unique(dim=0)) == 5


def test_a_vote_is_that_of_a_z_from_the_prior(monkeypatch: pytest.MonkeyPatch):
    segmenter, image = prob(), torch.randn(1, 1, 32, 32)

    def certain(_image: Tensor) -> Normal:
        return Normal(torch.tensor([[2.0, -1.0]]), torch.full((1, 2), -math.inf))

    monkeypatch.setattr(segmenter.network.prior, "forward", certain)
    votes = segmenter.sample(image, 2, torch.Generator())
    with torch.no_grad():
        logits = segmenter.network.combine(
            segmenter.network.unet(image), torch.tensor([[2.0, -1.0]])
        )
    torch.testing.assert_close(votes, logits.softmax(dim=1).expand(2, 1, 2, 32, 32))


def test_both_of_two_answers_are_learned_and_no_mean_of_them():
    torch.manual_seed(1)
    rng = torch.Generator().manual_seed(1)
    settings = ProbUNetSettings(channels=(8, 8), latent=2, beta=0.05)
    data = DataSettings(spatial_dims=2, size=(SIDE, SIDE))
    segmenter = prob_unet.build(settings, data, 1, 2, training=True)
    losses = learn(segmenter, 80, rng, 5e-3)
    # Without z, no answer is better than 1/2 for each of the 16 pixels of the square.
    assert losses[-10:].mean() < math.log(2) * 16 / SIDE**2 < losses[0]
    found = areas(segmenter, 40, rng)
    assert (found == 0).sum() >= 5
    assert ((found >= 14) & (found <= 18)).sum() >= 5
