"""Votes for images of any size, with a segmenter whose answer is known: class 1 where the image is
bright.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from helpers.segmenters import Brightness


def recipe(dims: int, size: tuple[int, ...], **data: object) -> Recipe:
    settings = DataSettings(spatial_dims=dims, size=size, mirror_votes=True, **data)
    return Recipe("x", settings, ImageUNetSettings(channels=(8, 16, 32)))


def draw(
    segmenter: Brightness, image: torch.Tensor, settings: Recipe, votes: int, rng: torch.Generator
) -> torch.Tensor:
    settings = replace(settings, training=replace(settings.training, precision="32"))
    return torch.from_numpy(
        draw_votes(TorchEngine(segmenter, settings), image.numpy(), settings, votes, rng)
    )


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((11, 13, 9), recipe(3, (16, 16, 16))),  # smaller than the patch: padded
        ((17, 21, 18), recipe(3, (16, 16, 16), flips=(0, 2))),  # a little larger: in one piece
        ((40, 20, 18), recipe(3, (16, 16, 16), flips=(0,))),  # much larger: in windows
        ((37, 70), recipe(2, (16, 16), flips=(0, 1))),
        ((11, 13, 9), recipe(2, (16, 16), flips=(0, 1), neighbours=1, slice_axis=0)),
        ((11, 13, 9), recipe(2, (16, 16), flips=(1,), neighbours=2, slice_axis=1)),
        ((11, 45, 9), recipe(2, (16, 16), flips=(0,), slice_axis=2)),
    ],
)
@pytest.mark.parametrize("votes", [1, 5])
def test_votes_lie_where_the_image_lies(
    shape: tuple[int, ...], settings: Recipe, votes: int, rng: torch.Generator
):
    image = torch.randn(1, *shape, generator=rng)
    drawn = draw(Brightness(), image, settings, votes, rng)
    assert drawn.shape == (min(votes, 2 ** len(settings.data.flips)), 2, *shape)
    for vote in drawn:
        torch.testing.assert_close(vote[1], image[0].sigmoid(), rtol=1e-4, atol=1e-5)


def test_votes_of_a_stochastic_segmenter_are_shared_among_the_flips(rng: torch.Generator):
    segmenter = Brightness(stochastic=True)
    image = torch.randn(1, 16, 16, 16, generator=rng)
    drawn = draw(segmenter, image, recipe(3, (16, 16, 16), flips=(0,)), 5, rng)
    assert [shape[0] for shape in segmenter.shapes] == [3, 2]
    for v, vote in enumerate(drawn):
        torch.testing.assert_close(vote[1], (image[0] + v // 2).sigmoid())


def test_votes_survive_windows(rng: torch.Generator):
    image = torch.randn(1, 60, 20, generator=rng)
    drawn = draw(Brightness(stochastic=True), image, recipe(2, (16, 16)), 3, rng)
    for v, vote in enumerate(drawn):
        torch.testing.assert_close(vote[1], (image[0] + v).sigmoid(), rtol=1e-4, atol=1e-5)


def test_the_network_never_sees_less_than_its_patch(rng: torch.Generator):
    segmenter = Brightness()
    draw(segmenter, torch.randn(1, 5, 6, 7, generator=rng), recipe(3, (16, 24, 16)), 1, rng)
    assert segmenter.shapes == [(1, 1, 1, 16, 24, 16)]


def test_slices_are_segmented_many_at_once(rng: torch.Generator):
    segmenter = Brightness()
    settings = recipe(2, (16, 16), neighbours=1)
    draw(segmenter, torch.randn(1, 16, 16, 40, generator=rng), settings, 1, rng)
    assert [shape[1:3] for shape in segmenter.shapes] == [(32, 3), (8, 3)]


def test_votes_see_mirror_images_only_where_the_recipe_says_so(rng: torch.Generator):
    segmenter = Brightness()
    settings = recipe(2, (16, 16), flips=(0, 1))
    image = torch.randn(1, 16, 16, generator=rng)
    draw(segmenter, image, settings, 4, rng)
    draw(
        segmenter, image, replace(settings, data=replace(settings.data, mirror_votes=False)), 4, rng
    )
    assert len(segmenter.shapes) == 4 + 1
