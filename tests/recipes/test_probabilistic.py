"""Settings of the baselines that draw votes with the image network of cDAL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdal.recipes import with_segmenter
from cdal.recipes.recipe import override
from cdal.runtime.errors import UserError
from helpers.recipes import small_recipe

NAMES = ("prob-unet", "ssn", "mc-dropout")


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_votes_are_those_of_the_recipe(name: str):
    ours = small_recipe()
    recipe = with_segmenter(ours, name)
    assert recipe.segmenter.channels == (8, 12, 16)
    assert recipe.segmenter.votes == ours.segmenter.votes
    assert recipe.segmenter.stochastic
    mirrored = replace(ours, data=replace(ours.data, mirror_votes=True))
    assert with_segmenter(mirrored, name).segmenter.votes == ours.segmenter.votes
    plain = with_segmenter(with_segmenter(ours, "cdal-deterministic"), name)
    assert plain.segmenter.channels == (8, 12, 16)
    assert plain.segmenter.votes == 16


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("prob-unet", "latent", 0, "1 or more"),
        ("prob-unet", "beta", -1.0, "0 or more"),
        ("ssn", "rank", 0, "1 or more"),
        ("ssn", "samples", 0, "1 or more"),
        ("mc-dropout", "dropout", 0.0, "cdal-unet is the network without dropout"),
        ("mc-dropout", "dropout", 1.0, "below 1"),
        ("mc-dropout", "channels", (8,), "2 levels or more"),
        ("ssn", "channels", (0, 8), "1 or more"),
    ],
)
def test_impossible_values_are_refused(name: str, field: str, value: object, message: str):
    recipe = with_segmenter(small_recipe(), name)
    with pytest.raises(UserError, match=rf"segmenter\.{field} must be .*{message}"):
        override(recipe, {f"segmenter.{field}": value})
