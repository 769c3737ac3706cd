"""What every segmenter shares: plain networks as segmenters, and several outputs in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.cdal import ImageUNetSettings
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import Supervised
from helpers.diffusion import make_batch
from helpers.recipes import small_recipe
from helpers.systems import random_batch, small


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_further_outputs_weigh_less_and_all_weigh_one(decay: float, rng: torch.Generator):
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outputs = nn.Parameter(torch.tensor([3.0, 5.0, 11.0]))

        def forward(self, image: Tensor) -> list[Tensor]:
            return [value.expand(len(image), 2, *image.shape[2:]) for value in self.outputs]

    def loss(logits: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        assert truth.shape == logits.shape
        return {"once": logits.mean(), "tenfold": 10 * logits.mean()}

    segmenter = Supervised(Three(), 2, loss, decay)
    (turn,) = segmenter.turns(
        Batch(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long), ("a",)), rng, 0
    )
    weights = np.array([1, 0.5, 0.25]) / 1.75 if decay == 0.5 else np.ones(3) / 3
    mean = float(weights @ [3, 5, 11])
    assert turn.terms == pytest.approx({"once": mean, "tenfold": 10 * mean})
    assert float(turn.loss.detach()) == pytest.approx(11 * mean)
    turn.loss.backward()
    np.testing.assert_allclose(segmenter.network.outputs.grad, 11 * weights, rtol=1e-6)


def test_a_plain_network_is_a_segmenter_too(rng: torch.Generator):
    segmenter = build_segmenter(
        replace(small_recipe(), segmenter=ImageUNetSettings(channels=(8, 12, 16))), 1, 3
    )
    (turn,) = segmenter.turns(make_batch(3), rng, 0)
    assert turn.player == segmenter.predictor
    assert segmenter.sample(make_batch(3).image, 5, rng).shape == (1, 4, 3, 32, 32)


@pytest.mark.parametrize(
    ("system", "term"),
    [
        ("cdal-unet", "cross_entropy"),
        ("dynunet", "cross_entropy"),
        ("mc-dropout", "cross_entropy"),
        ("ssn", "likelihood"),
        ("prob-unet", "divergence"),
    ],
)
def test_the_loss_of_several_annotators_is_the_mean_over_them(system: str, term: str):
    """With the same random draws for the image; what sees all pixels at once, as Dice does, is not
    a mean.
    """
    torch.manual_seed(0)
    recipe = small("phantoms", system)
    segmenter = build_segmenter(recipe, 1, 2, training=True)
    alone = random_batch(recipe, 2)
    other = torch.zeros_like(alone.label)

    def loss(batch: Batch) -> float:
        (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(0), 0)
        return float(turn.terms[term])

    both = loss(alone._replace(others=other[None]))
    mean = (loss(alone) + loss(alone._replace(label=other))) / 2
    assert both == pytest.approx(mean, rel=1e-5)
    assert loss(alone) != pytest.approx(mean, rel=1e-4)
