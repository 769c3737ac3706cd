"""Every system as it is built: as large as published, its votes probabilities, all its players
learning.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cdal.recipes import with_segmenter
from cdal.recipes.systems import SYSTEMS
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import parameters
from helpers.segmenters import shake
from helpers.systems import APPLICABLE, SMALL, random_batch, sized, small


def test_every_system_has_a_small_form_here():
    assert set(SMALL) == set(SYSTEMS) - {"segdiff"}


@pytest.mark.parametrize(
    ("system", "data", "size", "classes", "millions"),
    [
        ("unet", "phantoms", (256, 256), 2, 31.0),
        ("unetpp", "phantoms", (256, 256), 2, 9.04),
        ("msu-net", "phantoms", (256, 256), 2, 47.1),
        ("medt", "phantoms", (128, 128), 2, 1.56),
        ("segdiff", "phantoms", (256, 256), 2, (132, 164)),
        ("multi-segcaps", "hippocampus", (40, 56, 40), 3, 1.43),
        ("3d-ucaps", "hippocampus", (40, 56, 40), 3, 6.55),
    ],
)
def test_networks_have_as_many_parameters_as_published(
    system: str,
    data: str,
    size: tuple[int, ...],
    classes: int,
    millions: float | tuple[float, float],
):
    with torch.device("meta"):
        segmenter = build_segmenter(
            with_segmenter(sized(data, size), system), 3 if data == "phantoms" else 1, classes
        )
    least, most = millions if isinstance(millions, tuple) else (0.98 * millions, 1.02 * millions)
    assert least < parameters(segmenter) / 1e6 < most


@pytest.mark.parametrize(("system", "gigaflops"), [("unet", 102), ("msu-net", 152)])
def test_networks_compute_as_much_as_published(system: str, gigaflops: float):
    with torch.device("meta"):
        segmenter = build_segmenter(
            with_segmenter(sized("phantoms", (256, 256)), system), 3, 2
        ).eval()
    with FlopCounterMode(display=False) as counter:
        segmenter.sample(torch.empty(1, 3, 256, 256, device="meta"), 1, torch.Generator())
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_votes_of_every_system_are_probabilities_at_the_size_of_training_and_at_another(
    data: str, system: str, rng: torch.Generator
):
    recipe, classes = small(data, system), 2 if data == "phantoms" else 3
    segmenter = build_segmenter(recipe, 1, classes).eval()
    assert segmenter.stochastic == recipe.segmenter.stochastic
    for size in (recipe.data.size, (*recipe.data.size[:-1], 2 * recipe.data.size[-1])):
        votes = segmenter.sample(
            torch.randn(2, 2 * recipe.data.neighbours + 1, *size, generator=rng), 3, rng
        )
        assert votes.shape == (3 if segmenter.stochastic else 1, 2, classes, *size)
        assert votes.min() >= 0
        torch.testing.assert_close(votes.sum(dim=2), torch.ones(votes[:, :, 0].shape))


STOCHASTIC = [name for name in SMALL if SYSTEMS[name].settings().stochastic]


@pytest.mark.parametrize("system", STOCHASTIC)
def test_votes_differ_and_are_repeated_by_the_same_chance_whatever_their_number(system: str):
    recipe = small("phantoms", system)
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, 2).eval()
    shake(segmenter)
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    three, again, two, other = (
        segmenter.sample(image, votes, torch.Generator().manual_seed(seed))
        for votes, seed in ((3, 5), (3, 5), (2, 5), (3, 6))
    )
    assert torch.equal(three, again)
    assert (three[0] - three[1]).abs().max() > 1e-4
    assert (three - other).abs().max() > 1e-4
    if system != "segdiff-small":  # draws all votes of a step at once
        torch.testing.assert_close(three[:2], two)


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_every_player_of_every_system_learns_in_a_step(
    data: str, system: str, rng: torch.Generator
):
    recipe, classes = small(data, system), 2 if data == "phantoms" else 3
    segmenter = build_segmenter(recipe, 1, classes, training=True).train()
    shake(segmenter)
    moved = set()
    for turn in segmenter.turns(random_batch(recipe, classes), rng, step=0):
        player = segmenter.players()[turn.player]
        player.zero_grad()
        turn.loss.backward()
        gradients = [p.grad for p in player.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)
        moved.add(turn.player)
    assert moved == set(segmenter.players())
    assert segmenter.predictor in moved
