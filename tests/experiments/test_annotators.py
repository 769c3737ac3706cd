"""The experiments on data with several annotators."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdal.experiments import find_experiment
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import CDALSettings


def test_all_systems_have_the_same_image_network_votes_budget_and_data():
    experiment = find_experiment("annotators-lidc")
    recipes = experiment.recipes()
    assert list(recipes) == [
        "cdal",
        "cdal-deterministic",
        "dynunet",
        "mc-dropout",
        "prob-unet",
        "ssn",
    ]
    shared = [recipe.segmenter for name, recipe in recipes.items() if name != "dynunet"]
    assert len({settings.channels for settings in shared}) == 1
    assert {settings.votes for settings in shared if settings.stochastic} == {16}
    assert {recipe.data for recipe in recipes.values()} == {recipes["cdal"].data}
    trainings = [replace(recipe.training, validation_votes=1) for recipe in recipes.values()]
    assert trainings == [trainings[0]] * len(trainings)
    assert experiment.seeds == (0, 1, 2)
    assert recipes["cdal"].training.annotators == 4
    (ensemble,) = experiment.ensembles.values()
    assert (ensemble.arm, ensemble.seeds) == ("cdal-deterministic", (0, 1, 2, 3, 4))


def test_the_ingredients_have_steps_and_training_votes_of_1_2_and_4():
    experiment = find_experiment("ingredients-lidc")
    variants = {name: recipe.segmenter for name, recipe in experiment.recipes().items()}
    diffusing = [
        one for one in variants.values() if isinstance(one, CDALSettings) and one.diffusion
    ]
    assert {one.sampling_timesteps for one in diffusing} >= {1, 2, 4}
    base = variants["cdal"]
    assert {one.training_votes for one in diffusing} == {1, 2, 4, base.training_votes}
    assert variants["no recycling"] == replace(base, recycling=0.0)
    assert variants["T of 1"] == replace(base, timesteps=1, sampling_timesteps=1)
    assert {one.attention for one in diffusing} == {
        "raw",
        "normalised",
        "none",
        "constant",
        "shuffled",
    }
    assert {one.votes for one in diffusing} == {16}
    assert experiment.samplings["its coarse segmentation"] == Sampling(votes=1, timesteps=0)
    assert Sampling(timesteps=base.sampling_timesteps) not in experiment.samplings.values()


@pytest.mark.parametrize("name", ["annotators-lidc", "ingredients-lidc"])
def test_every_variant_predicts_without_what_others_would_lack(name: str):
    for recipe in find_experiment(name).recipes().values():
        assert not recipe.data.mirror_votes
        assert recipe.data.components == 0
        assert not recipe.training.calibrate
