"""Recipes with another segmenter, and the controls of cDAL."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.cdal import CDALSettings, ImageUNetSettings
from cdal.recipes.recipe import Recipe, TrainingSettings, override
from cdal.recipes.systems import SYSTEMS
from cdal.recipes.variants import (
    fine_tuned,
    for_annotators,
    paper_training,
    with_mirrors,
    with_timesteps,
)
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.cdal import CDAL
from cdal.segmenters.segmenter import parameters
from helpers.recipes import small_recipe
from helpers.segmenters import shake
from helpers.systems import VOLUMES_ONLY, random_batch


def control(name: str) -> CDAL:
    torch.manual_seed(0)
    segmenter = build_segmenter(with_segmenter(small_recipe(), name), 1, 2, training=True)
    assert isinstance(segmenter, CDAL)
    shake(segmenter)
    return segmenter


def drawn_with(segmenter: CDAL, seed: int, votes: int = 3) -> Tensor:
    image = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(5))
    return segmenter.eval().sample(image, votes, torch.Generator().manual_seed(seed))


def test_without_diffusion_nothing_is_drawn_and_the_network_is_the_same(rng: torch.Generator):
    ours, plain = control("cdal"), control("cdal-deterministic")
    assert torch.equal(drawn_with(plain, 1), drawn_with(plain, 2))
    assert drawn_with(plain, 1).shape == (1, 2, 2, 32, 32)
    assert (drawn_with(ours, 1) - drawn_with(ours, 2)).abs().max() > 1e-4
    shapes = [
        {name: p.shape for name, p in segmenter.generator.named_parameters()}
        for segmenter in (ours, plain)
    ]
    assert shapes[0] == shapes[1]
    assert parameters(ours) == parameters(plain)
    turns = list(plain.train().turns(random_batch(small_recipe(), 2), rng, 0))
    assert [turn.player for turn in turns] == ["generator"] == list(plain.players())
    assert [
        turn.player for turn in ours.train().turns(random_batch(small_recipe(), 2), rng, 0)
    ] == ["discriminator", "generator"]


@pytest.mark.parametrize("name", ["cdal", "cdal-constant-z"])
def test_the_control_with_constant_z_has_the_same_z_always(name: str, rng: torch.Generator):
    segmenter, latents = control(name), []
    segmenter.generator.modulation.register_forward_hook(
        lambda _module, given, _out: latents.append(given[1])
    )
    votes = drawn_with(segmenter, 1)
    for turn in segmenter.train().turns(random_batch(small_recipe(), 2), rng, 0):
        turn.loss.backward()
    drawn_with(segmenter, 2)
    assert (
        len(latents) == 2 + 3
    )  # once for all steps of a sampling; in training for D, for recycling and for G
    different = len(torch.cat(latents).unique(dim=0))
    assert different == (1 if name == "cdal-constant-z" else sum(map(len, latents)))
    assert (votes[0] - votes[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["cdal-deterministic", "cdal-constant-z", "cdal-unet"])
def test_controls_have_the_numbers_of_the_recipe(name: str):
    ours = small_recipe()
    recipe = with_segmenter(ours, name)
    assert recipe.segmenter.channels == (8, 12, 16)
    if isinstance(recipe.segmenter, CDALSettings):
        assert (recipe.segmenter.denoiser_channels, recipe.segmenter.latent) == (16, 4)
    assert recipe.segmenter.votes == (ours.segmenter.votes if recipe.segmenter.stochastic else 1)
    mirrored = replace(ours, data=replace(ours.data, mirror_votes=True))
    assert with_segmenter(mirrored, name).segmenter.votes == (
        ours.segmenter.votes if recipe.segmenter.stochastic else 4
    )


def test_a_network_of_two_axes_sees_volumes_slice_by_slice():
    volume = find_recipe("hippocampus")
    recipe = with_segmenter(volume, "unet")
    assert (recipe.data.spatial_dims, recipe.data.size, recipe.data.flips) == (2, (48, 64), (0,))
    assert (recipe.data.neighbours, recipe.segmenter.votes) == (0, 1)
    assert recipe.training.batch == 8 * volume.training.batch
    across = replace(volume, data=replace(volume.data, slice_axis=1, flips=(0, 1, 2)))
    recipe = with_segmenter(across, "cdal-paper")
    assert (recipe.data.size, recipe.data.flips) == ((40, 40), ())
    assert (
        with_segmenter(across, "msu-net").data.size,
        with_segmenter(across, "msu-net").data.flips,
    ) == ((48, 48), (0, 1))
    along = replace(volume, data=replace(volume.data, slice_axis=0, flips=(0, 2)))
    assert (with_segmenter(along, "medt").data.size, with_segmenter(along, "medt").data.flips) == (
        (56, 40),
        (1,),
    )


def test_what_a_segmenter_asks_for_reaches_data_and_training():
    capsules = with_segmenter(find_recipe("hippocampus"), "multi-segcaps")
    assert (capsules.data.neighbours, capsules.training.batch) == (2, 4)
    first = build_segmenter(capsules, 1, 3).network.first[0]
    assert first.in_channels == 5
    assert build_segmenter(capsules, 1, 3).network.slice_channels == 1
    diffusion = with_segmenter(find_recipe("monuseg"), "segdiff").training
    assert (
        diffusion.learning_rate,
        diffusion.weight_decay,
        diffusion.ema,
        diffusion.validation_votes,
    ) == (1e-4, 0.0, 0.9999, 1)


def of_fours(size: tuple[int, int]) -> Recipe:
    """Phantoms of that size, with a network that takes every multiple of 4."""
    phantoms = find_recipe("phantoms")
    return replace(
        phantoms,
        data=replace(phantoms.data, size=size),
        segmenter=ImageUNetSettings(channels=(8, 8, 8)),
    )


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from(sorted(set(SYSTEMS) - {"dynunet", "segdiff", "segdiff-small"})),
)
@settings(max_examples=60)
def test_patches_grow_to_the_next_multiple_that_the_network_needs(
    fours: tuple[int, int], name: str
):
    size = (4 * fours[0], 4 * fours[1])
    before = of_fours(size)
    if name in VOLUMES_ONLY:
        with pytest.raises(UserError, match="needs volumes"):
            with_segmenter(before, name)
        return
    recipe = with_segmenter(before, name)
    multiple = recipe.segmenter.multiple(recipe.data)
    assert recipe.data.size == tuple(
        min(m for m in range(multiple, 400, multiple) if m >= s) for s in size
    )


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("dynunet", (60, 40), (64, 48)),
        ("segdiff", (124, 136), (128, 144)),
        ("segdiff-small", (124, 136), (128, 144)),
    ],
)
def test_patches_grow_until_they_are_the_multiple_that_they_then_need(
    name: str, size: tuple[int, int], expected: tuple[int, int]
):
    assert with_segmenter(of_fours(size), name).data.size == expected


@pytest.mark.parametrize(
    ("data", "system", "name"),
    [
        ("phantoms", "cdal", "unet"),
        ("phantoms", "unet", "cdal"),
        ("hippocampus", "unet", "3d-ucaps"),
    ],
)
def test_a_name_is_not_changed_without_the_rest(data: str, system: str, name: str):
    with pytest.raises(UserError, match=f"cannot become '{name}'"):
        override(with_segmenter(find_recipe(data), system), {"segmenter.name": name})


@pytest.mark.parametrize(
    ("data", "system", "name"),
    [
        ("phantoms", "cdal", "cdal-deterministic"),
        ("phantoms", "cdal", "cdal-constant-z"),
        ("phantoms", "cdal", "cdal-paper"),
        ("phantoms", "segdiff-small", "segdiff"),
        ("hippocampus", "unet-3d", "unet"),
    ],
)
def test_a_name_is_not_changed_between_systems_with_the_same_settings_either(
    data: str, system: str, name: str
):
    """The run would go by a name that it does not deserve; the last one's model could not be read
    again.
    """
    with pytest.raises(UserError, match=f"cannot become '{name}'"):
        override(with_segmenter(find_recipe(data), system), {"segmenter.name": name})


def test_the_same_segmenter_changes_nothing():
    recipe = find_recipe("hippocampus")
    assert with_segmenter(recipe, recipe.segmenter.name) is recipe


def test_for_several_annotators_the_votes_may_be_empty_or_whole():
    """The twin without diffusion, whose one vote is compared with nothing, gets its Dice back."""
    recipe = for_annotators(find_recipe("phantoms"), 3)
    assert (recipe.training.annotators, recipe.segmenter.votes) == (3, 16)
    assert recipe.segmenter.iou_energy > 0 and recipe.segmenter.dice == 0
    assert for_annotators(recipe, 10).training.annotators == 4
    twin = with_segmenter(recipe, "cdal-deterministic").segmenter
    assert (twin.iou_energy, twin.dice) == (0, 1)


def test_no_more_votes_are_validated_than_there_are():
    """And the number that the recipe asks for, if the segmenter has as many."""
    recipe = find_recipe("hippocampus")
    many = replace(recipe, training=replace(recipe.training, validation_votes=7))
    assert with_segmenter(many, "unet-3d").training.validation_votes == 1
    assert with_segmenter(many, "cdal-constant-z").training.validation_votes == 7
    mirrored = replace(many, data=replace(many.data, mirror_votes=True, flips=(0, 1)))
    assert with_segmenter(mirrored, "unet-3d").training.validation_votes == 4


def test_slices_take_the_place_of_volumes_in_a_batch():
    volume = find_recipe("hippocampus")
    for name in ("cdal-paper", "unet", "medt"):
        data = with_segmenter(volume, name).data
        assert data.spatial_dims == 2
        assert data.slice_axis == volume.data.slice_axis
        assert data.spacing == volume.data.spacing
    flat = find_recipe("phantoms")
    assert with_segmenter(flat, "unet").training.batch == flat.training.batch


def test_the_papers_optimiser_changes_nothing_else():
    training = TrainingSettings(steps=7, batch=3, ema=0.5, seed=9)
    changed = paper_training(training, 1e-4, 2e-4)
    assert (changed.learning_rate, changed.discriminator_learning_rate) == (1e-4, 2e-4)
    assert (changed.betas, changed.weight_decay, changed.validation_votes) == ((0.5, 0.9), 0.0, 1)
    ours = {
        "learning_rate",
        "discriminator_learning_rate",
        "betas",
        "weight_decay",
        "validation_votes",
    }
    for field in fields(TrainingSettings):
        assert field.name in ours or getattr(changed, field.name) == getattr(training, field.name)


def test_other_timesteps_for_a_segmenter_with_diffusion():
    recipe, path = small_recipe(), Path("m.safetensors")
    assert with_timesteps(recipe, None, path) is recipe
    assert with_timesteps(recipe, 1, path) == override(recipe, {"segmenter.sampling_timesteps": 1})
    for name in ("cdal-deterministic", "unet"):
        plain = with_segmenter(recipe, name)
        assert with_timesteps(plain, None, path) is plain
        with pytest.raises(
            UserError,
            match=rf"m\.safetensors: timesteps belong to diffusion; this model is a {name}",
        ):
            with_timesteps(plain, 2, path)


def test_mirror_images_bring_a_vote_each_where_there_is_no_chance():
    recipe, path = small_recipe(), Path("m.safetensors")  # flips along both axes
    assert with_mirrors(recipe, path).segmenter == recipe.segmenter
    assert with_mirrors(recipe, path).data.mirror_votes
    assert with_mirrors(with_segmenter(recipe, "unet"), path).segmenter.votes == 4
    with pytest.raises(UserError, match=r"m\.safetensors: its recipe has no axis"):
        with_mirrors(override(recipe, {"data.flips": ()}), path)


def test_the_systems_that_are_compared_on_annotators_learn_several_at_once():
    recipe = override(find_recipe("phantoms"), {"training.annotators": 3})
    for name in ("cdal-deterministic", "cdal-unet", "dynunet", "mc-dropout", "prob-unet", "ssn"):
        assert with_segmenter(recipe, name).training.annotators == 3
    assert with_segmenter(recipe, "unet").training.annotators == 1
    with pytest.raises(UserError, match=r"training\.annotators must be 1 with this segmenter"):
        override(with_segmenter(recipe, "unet"), {"training.annotators": 2})


def test_a_short_training_from_a_model_changes_the_training_alone():
    model = override(find_recipe("phantoms"), {"training.minutes": 30, "training.steps": None})
    tuned = fine_tuned(model)
    assert tuned.data == model.data
    assert tuned.segmenter == model.segmenter
    assert (tuned.training.steps, tuned.training.minutes) == (500, None)
    assert tuned.training.learning_rate == pytest.approx(0.1 * model.training.learning_rate)
    kept = ("discriminator_learning_rate", "batch", "ema", "weight_decay", "seed", "warmup")
    for name in kept:
        assert getattr(tuned.training, name) == getattr(model.training, name)
