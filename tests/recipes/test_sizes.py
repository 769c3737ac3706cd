"""The ladder of sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.cdal import CDALSettings
from cdal.recipes.sizes import SIZES, sized
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import parameters


def test_the_first_size_is_the_recipe_itself():
    for name in ("hippocampus", "cxr", "monuseg", "lidc"):
        assert sized(find_recipe(name), "S") == find_recipe(name)


def test_every_size_has_more_parameters_and_steps_than_the_one_before():
    recipe = find_recipe("hippocampus-slices")
    found = [sized(recipe, name) for name in SIZES]
    counts = [parameters(build_segmenter(each, 1, 2)) for each in found]
    steps = [each.training.steps for each in found]
    assert counts == sorted(set(counts))
    assert steps == sorted(set(steps))


def test_levels_are_added_while_the_patch_can_be_halved():
    """256 has room for seven levels of 4 voxels; 40 x 56 x 40 is a multiple of 8 alone."""
    deep = sized(find_recipe("cxr"), "XL").segmenter
    flat = sized(find_recipe("hippocampus"), "XL").segmenter
    assert isinstance(deep, CDALSettings) and isinstance(flat, CDALSettings)
    assert deep.channels == (48, 96, 192, 384, 512, 512)
    assert flat.channels == (48, 96, 192, 320)


def test_a_budget_in_minutes_is_left_alone():
    recipe = find_recipe("cxr")
    timed = replace(recipe, training=replace(recipe.training, steps=None, minutes=5.0))
    assert sized(timed, "L").training == timed.training


def test_controls_get_the_size_of_the_method():
    recipe = sized(find_recipe("cxr"), "M")
    for name in ("cdal-deterministic", "cdal-unet"):
        twin = with_segmenter(recipe, name).segmenter
        assert twin.channels == (32, 64, 128, 256, 512)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["cdal-paper", "unet"])
def test_other_networks_are_refused(name: str):
    with pytest.raises(UserError, match=f"has {name}"):
        sized(with_segmenter(find_recipe("cxr"), name), "M")


def test_an_unknown_size_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match=r"no size 'huge'\. There are: S, M, L, XL"):
        sized(find_recipe("cxr"), "huge")
