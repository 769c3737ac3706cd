"""Recipes of ensembles: what members must agree on, and how many votes they have."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.ensemble import join_recipes
from cdal.recipes.recipe import DataSettings, Recipe, override, to_dict
from cdal.runtime.errors import UserError
from helpers.ensembles import plain_recipe
from helpers.recipes import small_recipe

OTHER = {
    "data.size": (64, 32),
    "data.spacing": (1.0, 1.0, 2.0),
    "data.resize": (64, 64),
    "data.intensities": "range",
    "data.neighbours": 1,
    "data.slice_axis": 0,
    "data.overlap": 0.25,
    "data.whole": 4.0,
    "data.components": 1,
    "data.decision": "expected-dice",
    "data.position": True,
    "data.mirror_votes": True,
}
FREE = {
    "data.channels": 1,
    "data.partition": "stratified",
    "data.folds": 5,
    "data.fold": 2,
    "data.validation": False,
    "data.patient": "(.*)_",
    "data.protocols": ("cxr-256",),
    "data.rotation": 0.0,
    "data.scaling": 0.0,
    "data.shift": 0.0,
    "data.intensity": 0.0,
    "data.stain": 0.0,
    "data.collimation": 0.5,
    "data.foreground": 0.5,
    "data.flips": (0,),
    "training.seed": 7,
    "training.precision": "auto",
    "training.cache": "disk",
}


def names(*recipes: Recipe) -> list[str]:
    return [f"model {number}" for number in range(len(recipes))]


def joined(*recipes: Recipe) -> Recipe:
    return join_recipes(recipes, names(*recipes))


def test_every_data_setting_is_decided_about():
    decided = {name for name in (*OTHER, *FREE) if name.startswith("data.")}
    known = {f"data.{field.name}" for field in fields(DataSettings)}
    assert decided | {"data.spatial_dims"} == known


@pytest.mark.parametrize("field", OTHER)
def test_members_that_see_images_differently_are_refused_by_field_and_values(field: str):
    first = small_recipe()
    other = override(first, {field: OTHER[field]})
    value = repr(getattr(other.data, field.split(".")[1]))
    with pytest.raises(UserError) as caught:
        joined(first, first, other)
    told = str(caught.value)
    assert "model 0 and model 2 cannot vote together" in told
    assert f"{field} is {getattr(first.data, field.split('.')[1])!r}" in told
    assert value in told


@pytest.mark.parametrize("field", FREE)
def test_what_only_training_depends_on_may_differ(field: str):
    first = small_recipe()
    assert joined(first, override(first, {field: FREE[field]})).data == first.data


def test_mirror_images_must_be_the_same_if_votes_see_them():
    seeing = override(small_recipe(), {"data.mirror_votes": True})
    with pytest.raises(UserError, match=r"data\.flips is \(0, 1\) in the one and \(0,\)"):
        joined(seeing, override(seeing, {"data.flips": (0,)}))


def test_pictures_and_volumes_do_not_vote_together():
    with pytest.raises(UserError, match=r"data\.spatial_dims is 2 in the one and 3"):
        joined(find_recipe("phantoms"), find_recipe("hippocampus"))


def test_what_an_ensemble_is_called_and_needs():
    recipe, plain = small_recipe(), plain_recipe()
    both = joined(recipe, plain, recipe)
    assert both.segmenter.name == "ensemble of 2 cdal, 1 cdal-unet"
    assert both.segmenter.parts == (recipe.segmenter, plain.segmenter, recipe.segmenter)
    assert recipe.segmenter.parts == (recipe.segmenter,)
    assert both.segmenter.stochastic
    assert not joined(plain, plain).segmenter.stochastic
    assert joined(recipe, recipe).segmenter.diffusion_steps == 2
    assert both.segmenter.diffusion_steps is None
    assert both.segmenter.without_diffusion() is None
    assert (both.name, joined(recipe, replace(recipe, name="x")).name) == ("small", "ensemble")
    assert to_dict(both)["segmenter"]["members"][1]["channels"] == [4, 6, 8]


def test_an_image_is_padded_to_what_all_members_need():
    volumes = find_recipe("hippocampus")
    volumes = override(volumes, {"data.size": (48, 48, 48)})
    deeper = override(volumes, {"segmenter.channels": (8, 8, 8, 8, 8)})
    paper = with_segmenter(find_recipe("phantoms"), "cdal-unet")
    assert deeper.segmenter.multiple(volumes.data) == 2 * volumes.segmenter.multiple(volumes.data)
    assert joined(volumes, deeper).segmenter.multiple(volumes.data) == 16
    assert joined(paper, paper).segmenter.multiple(paper.data) == paper.segmenter.multiple(
        paper.data
    )


@pytest.mark.parametrize(
    ("recipes", "votes"),
    [
        ([small_recipe()] * 3, 15),  # as many as one of them
        ([override(small_recipe(), {"segmenter.votes": 2})] * 5, 5),  # one each
        ([small_recipe(), override(small_recipe(), {"segmenter.votes": 20})], 20),
        ([plain_recipe()] * 5, 5),
        ([override(plain_recipe(mirror_votes=True), {"segmenter.votes": 4})] * 3, 12),
        ([override(plain_recipe(), {"segmenter.votes": 4})] * 3, 3),  # further ones repeat it
        ([small_recipe(), plain_recipe()], 15),
    ],
)
def test_votes_by_default(recipes: list[Recipe], votes: int):
    assert joined(*recipes).segmenter.votes == votes
