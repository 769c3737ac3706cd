"""SegDiff: its encoder against plain loops, its schedule against DDPM's, its sampling against a
network that knows the label.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from cdal.segmenters.baselines.segdiff import RRDB, DenseBlock, SegDiff, linear_schedule, respaced
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.schedule import at
from helpers.arrays import normal
from helpers.systems import random_batch, small


def dense_in_a_loop(block: DenseBlock, x: Tensor) -> Tensor:
    weights = list(block.parameters())
    assert len(weights) == 10
    for i in range(5):
        seen = x if i == 0 else torch.cat([seen, new], dim=1)  # noqa: F821 (the one before made them)
        new = F.conv2d(seen, weights[2 * i], weights[2 * i + 1], padding=1)
        new = torch.where(new > 0, new, 0.2 * new) if i < 4 else new
    return new


def test_dense_blocks_and_their_residuals_are_those_of_esrgan():
    torch.manual_seed(0)
    layer, x = RRDB(6, 4).double(), normal(2, 6, 5, 7)
    assert [c.weight.shape[:2] for c in layer.dense[0].convolutions] == [
        (4, 6),
        (4, 10),
        (4, 14),
        (4, 18),
        (6, 22),
    ]
    with torch.no_grad():
        torch.testing.assert_close(layer.dense[1](x), dense_in_a_loop(layer.dense[1], x))
        first = x + 0.2 * dense_in_a_loop(layer.dense[0], x)
        second = first + 0.2 * dense_in_a_loop(layer.dense[1], first)
        third = second + 0.2 * dense_in_a_loop(layer.dense[2], second)
        torch.testing.assert_close(layer(x), x + 0.2 * third)


@pytest.mark.parametrize(("timesteps", "first", "last"), [(1000, 1e-4, 0.02), (100, 1e-3, 0.2)])
def test_the_linear_schedule_is_that_of_ddpm(timesteps: int, first: float, last: float):
    ours, theirs = (
        linear_schedule(timesteps),
        DDPMScheduler(timesteps, "linear_beta", beta_start=first, beta_end=last),
    )
    assert ours.timesteps == timesteps
    assert (ours.beta[0], ours.alpha_bar[0]) == (0, 1)
    torch.testing.assert_close(ours.beta[1:], theirs.betas)
    torch.testing.assert_close(ours.alpha[1:], theirs.alphas)
    torch.testing.assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_a_respaced_schedule_visits_noise_levels_of_the_full_one(steps: int):
    full, (schedule, original) = linear_schedule(100), respaced(100, steps)
    assert original.tolist() == list(range(0, 101, 100 // steps))
    torch.testing.assert_close(schedule.alpha_bar, full.alpha_bar[original])
    torch.testing.assert_close(schedule.alpha.cumprod(0), full.alpha_bar[original])
    torch.testing.assert_close(schedule.beta, 1 - schedule.alpha)
    if steps == 100:
        torch.testing.assert_close((schedule.beta, schedule.alpha), (full.beta, full.alpha))


def segdiff(**changes: object) -> SegDiff:
    recipe = small("phantoms", "segdiff-small")
    torch.manual_seed(0)
    segmenter = build_segmenter(
        replace(recipe, segmenter=replace(recipe.segmenter, **changes)), 1, 2
    )
    assert isinstance(segmenter, SegDiff)
    return segmenter.eval()


@pytest.mark.parametrize(("steps", "votes"), [(1, 1), (2, 3), (4, 2)])
def test_segdiff_encodes_an_image_once_however_many_steps_and_votes(
    steps: int, votes: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    segmenter = segdiff(sampling_timesteps=steps)
    encode, noise, images, seen = segmenter.network.encode, segmenter.network.noise, [], []
    monkeypatch.setattr(
        segmenter.network, "encode", lambda image: images.append(image) or encode(image)
    )
    monkeypatch.setattr(
        segmenter.network,
        "noise",
        lambda x, t, f: seen.append((len(x), *t.unique().tolist())) or noise(x, t, f),
    )
    image = torch.randn(2, 1, 32, 32, generator=rng)
    segmenter.sample(image, votes, rng)
    assert len(images) == 1
    assert images[0] is image
    assert seen == [(2 * votes, step) for step in range(4, 0, -4 // steps)]


@pytest.mark.parametrize("mistake", [0.0, 0.5])
def test_segdiffs_loss_is_the_squared_error_of_the_noise(
    mistake: float, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    segmenter, batch = (
        segdiff(timesteps=100, sampling_timesteps=5),
        random_batch(small("phantoms", "segdiff-small"), 2, 4),
    )
    label = 2.0 * batch.label[:, None] - 1

    def noise(x_t: Tensor, t: Tensor, features: Tensor) -> Tensor:
        alpha_bar = at(linear_schedule(100).alpha_bar, t, x_t)
        return (x_t - alpha_bar.sqrt() * label) / (1 - alpha_bar).sqrt() + mistake

    monkeypatch.setattr(segmenter.network, "noise", noise)
    (turn,) = segmenter.turns(batch, rng, 0)
    assert float(turn.loss.detach()) == pytest.approx(mistake**2, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_segdiff_draws_the_label_from_a_network_that_knows_it(
    steps: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    segmenter = segdiff(timesteps=100, sampling_timesteps=steps)
    label = (torch.rand(1, 1, 32, 32, generator=rng) > 0.5).float()

    def noise(x_t: Tensor, t: Tensor, features: Tensor) -> Tensor:
        alpha_bar = at(linear_schedule(100).alpha_bar, t, x_t)
        return (x_t - alpha_bar.sqrt() * (2 * label - 1)) / (1 - alpha_bar).sqrt()

    monkeypatch.setattr(segmenter.network, "noise", noise)
    votes = segmenter.sample(torch.zeros(1, 1, 32, 32), 2, rng)
    torch.testing.assert_close(votes[:, :, 1], label[:, 0].expand(2, 1, -1, -1), atol=1e-3, rtol=0)
