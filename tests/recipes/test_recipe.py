"""Recipes: there and back, and refusal of what no run could use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.recipes import RECIPES, find_recipe, with_segmenter
from cdal.recipes.recipe import (
    Recipe,
    TrainingSettings,
    field_names,
    from_dict,
    load_recipe,
    override,
    to_dict,
    to_yaml,
)
from cdal.recipes.systems import SYSTEMS
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from helpers.systems import SMALL, small


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("segmenter", SYSTEMS)
def test_recipes_survive_yaml(name: str, segmenter: str, tmp_path: Path):
    try:
        recipe = with_segmenter(find_recipe(name), segmenter)
    except UserError as error:
        assert segmenter in ("unet-3d", "3d-ucaps")
        assert find_recipe(name).data.spatial_dims == 2
        assert "needs volumes" in str(error)
        return
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@given(
    steps=st.one_of(st.none(), st.integers(1, 10**6)),
    rate=st.floats(1e-6, 1.0),
    precision=st.sampled_from(["auto", "32", "bf16"]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25)
def test_values_survive_a_dictionary(steps: int | None, rate: float, precision: str, seed: int):
    training = TrainingSettings(
        steps=steps, minutes=3.5, learning_rate=rate, precision=precision, seed=seed
    )
    recipe = Recipe("any", training=training)
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(recipe)))) == recipe


def test_fields_left_out_have_their_defaults():
    recipe = from_dict({"name": "mine", "training": {"batch": 7}})
    assert recipe == replace(Recipe("mine"), training=TrainingSettings(batch=7))


def test_values_change_single_fields():
    recipe = override(
        Recipe("x"), {"training.batch": 4, "data.size": "[16,16,24]", "segmenter.attention": "raw"}
    )
    assert (recipe.training.batch, recipe.data.size, recipe.segmenter.attention) == (
        4,
        (16, 16, 24),
        "raw",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training.bach": 4}, "Did you mean training.batch"),
        ({"segmentr.votes": 3}, "Did you mean segmenter.votes"),
        ({"training.batch": "four"}, "int"),
        ({"segmenter.attention": "mine"}, "normalised"),
        ({"data.size": (16, 16)}, "data.size must be 3 numbers"),
        ({"data.size": (15, 16, 16)}, "multiples of 8"),
        ({"data.fold": 4}, "0 to 3"),
        ({"segmenter.sampling_timesteps": 3}, "divisor of segmenter.timesteps"),
        ({"segmenter.training_votes": 1}, "compares votes"),
        ({"segmenter.r1_every": 0}, "segmenter.r1_every must be 1 or more"),
        ({"segmenter.channels": (16, 32)}, "3 levels or more"),
        ({"segmenter.latent": -1}, "0 or more"),
        ({"data.spacing": (1, 1)}, "3 numbers above 0"),
        ({"training.learning_rate": -1}, "more than 0"),
        ({"training.seed": -1}, "0 or more"),
        ({"training.steps": None}, "if training.minutes is null"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(fields: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        override(Recipe("x"), fields)


def test_a_misspelt_field_in_yaml_is_refused_with_the_names_that_exist():
    with pytest.raises(UserError) as caught:
        from_dict({"training": {"stepz": 3}})
    assert "stepz" in str(caught.value)
    assert all(name in str(caught.value) for name in field_names(Recipe("x")))


BAD_YAML = [
    "- a list",
    "a: [",
    "training: {steps: many}",
    "segmenter: {name: nothing}",
    "segmenter: {name: [1]}",
    "datta: {}",
    "training: 5",
]


def test_an_empty_part_is_one_left_out():
    assert from_dict({"name": "mine", "training": None}) == Recipe("mine")


def test_hints_are_for_the_name_that_is_wrong():
    with pytest.raises(UserError, match=r"Did you mean training\.batch"):
        from_dict({"training": {"batchh": 99}})


def test_each_segmenter_takes_the_form_that_suits_the_data():
    paper = with_segmenter(find_recipe("hippocampus"), "cdal-paper")
    assert (paper.data.spatial_dims, paper.data.size, paper.data.flips) == (2, (40, 56), ())
    assert paper.training.betas == (0.5, 0.9)
    ours = with_segmenter(find_recipe("hippocampus-paper"), "cdal")
    assert ours.segmenter == find_recipe("hippocampus").segmenter
    assert with_segmenter(find_recipe("hippocampus"), "cdal") == find_recipe("hippocampus")


@pytest.mark.parametrize("text", BAD_YAML)
def test_yaml_that_is_not_a_recipe_is_refused(text: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=r"bad\.yaml"):
        load_recipe(tmp_path / "bad.yaml")


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(UserError, match="Did you mean hippocampus"):
        find_recipe("hipocampus")
    with pytest.raises(UserError, match="cdal-paper"):
        with_segmenter(Recipe("x"), "unknown")


@pytest.mark.parametrize(
    ("name", "channels", "classes", "millions"),
    [("hippocampus-paper", 1, 3, 3.7), ("cxr-paper", 1, 2, 8.8), ("monuseg-paper", 3, 2, 41.7)],
)
def test_the_papers_recipes_are_as_large_as_the_papers(
    name: str, channels: int, classes: int, millions: float
):
    recipe = find_recipe(name)
    generator = build_segmenter(recipe, channels, classes).generator
    assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(millions, rel=0.1)
    settings = recipe.segmenter
    assert (settings.attention, settings.energy, settings.adversarial, settings.squared_error) == (
        "raw",
        0,
        0,
        1,
    )
    assert settings.votes == 5
    assert settings.sampling_timesteps == (4 if name == "monuseg-paper" else 2)
    assert settings.discriminator_every == 1  # Alg. 1
    if (
        name != "hippocampus-paper"
    ):  # the paper's attention: 32 x 32 on MoNuSeg, 16 x 16 on chest X-rays
        assert recipe.data.size[0] // settings.attention_downsample == (
            32 if name == "monuseg-paper" else 16
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.stain": 1}, "data.stain must be 0 unless"),
        ({"data.overlap": 1}, "below 1"),
        ({"data.protocols": ("mine",)}, "some of own-grid"),
        ({"data.resize": (0, 4)}, "2 numbers"),
        ({"data.foreground": 2}, "between 0 and 1"),
        ({"data.channels": 0}, "1 or more"),
    ],
)
def test_settings_of_data_that_no_run_could_use_are_refused(
    fields: dict[str, object], message: str
):
    with pytest.raises(UserError, match=message):
        override(find_recipe("cxr"), fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  batch: 2\n  steps: 3\n  batch: 4\n", "'batch' is given twice"),
        ("data: {}\ntraining: {}\ndata: {}\n", "'data' is given twice"),
        ("[" * 10_000, "recursion"),
        ("training: " + "{a: " * 10_000, "recursion"),
        ("training: {steps: " + "9" * 5000 + "}", "4300"),
        ("data: &a [1]\ntraining: *a\n", r"references \(\*a\)"),
        ("training: {learning_rate: .inf}", "finite"),
        ("training: {steps: 1e400}", "steps"),
        ("training: {batch: null}", "training.batch must have a value"),
        ("data: {size: null}", "data.size must have a value"),
        ("data: {intensities: null}", "data.intensities must have a value"),
        ("segmenter: {votes: null}", "segmenter.votes must have a value"),
        ("\x00", "cannot be read"),
        ("# " + "x" * 2**20, "bytes"),
    ],
)
def test_a_file_that_is_no_plain_recipe_is_refused(text: str, message: str, tmp_path: Path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(tmp_path / "r.yaml")


def test_a_pipe_or_a_device_is_no_recipe(tmp_path: Path):
    """Reading either would not end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(UserError, match="not a file"):
            find_recipe(str(tmp_path / f"{name}.yaml"))


@pytest.mark.parametrize("value", ["[" * 10_000, "9" * 5000])
def test_a_field_of_the_command_line_may_be_anything(value: str):
    with pytest.raises(UserError):
        override(Recipe("x"), {"data.size": value})


def takes_null(recipe: Recipe, field: str) -> bool:
    part, _, name = field.partition(".")
    try:
        replace(recipe, **{part: replace(getattr(recipe, part), **{name: None})})
    except UserError as error:
        return "must have a value" not in str(error)
    return True


@pytest.mark.parametrize("name", SMALL)
def test_null_is_taken_where_the_reference_says_so(name: str):
    """Only for these fields, whatever the system."""
    recipe = small("hippocampus", name)
    assert {field for field in field_names(recipe) if takes_null(recipe, field)} == {
        "data.channels",
        "data.spacing",
        "data.resize",
        "data.patient",
        "training.steps",
        "training.minutes",
        "training.validation_cases",
    } | ({"segmenter.multipliers"} if name == "segdiff-small" else set())
