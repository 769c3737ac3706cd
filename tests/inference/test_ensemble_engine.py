"""Votes of several models, against those of each model alone and against means by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cdal.inference.decision import spread
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes, votes_drawn
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.errors import UserError
from helpers.ensembles import member, plain_recipe
from helpers.recipes import small_recipe
from helpers.segmenters import Brightness


def recipe_of(**data: object) -> Recipe:
    recipe = plain_recipe(**data)
    return replace(recipe, training=replace(recipe.training, precision="32"))


def engine_of(recipe: Recipe, *stochastic: bool) -> EnsembleEngine:
    return EnsembleEngine([TorchEngine(Brightness(one).eval(), recipe) for one in stochastic])


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("votes", [5, 6, 15, 16])
def test_shares_are_as_equal_as_possible(count: int, votes: int):
    shares = engine_of(recipe_of(), *[True] * count).shares(votes)
    assert sum(shares) == votes
    assert max(shares) - min(shares) <= 1
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("shape", "mirror"), [((30, 27), True), ((40, 150), False)], ids=["padded", "in windows"]
)
def test_the_votes_of_a_member_are_those_that_it_gives_alone(
    shape: tuple[int, int], mirror: bool, tmp_path: Path
):
    """With its share of the votes and the seed that belongs to it, to the bit."""
    files = [member(tmp_path / f"{seed}.safetensors", seed) for seed in range(3)]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    sampling = Sampling(votes=7, seed=11, mirror=mirror)
    together = load(files, sampling, "cpu").predict(image, "case", keep_votes=True)
    assert (together.count, together.votes.shape) == (7, (7, 2, *shape))
    alone = [
        load(file, replace(sampling, votes=share, seed=11 + m), "cpu").predict(
            image, "case", keep_votes=True
        )
        for m, (file, share) in enumerate(zip(files, (3, 2, 2), strict=True))
    ]
    votes = np.concatenate([prediction.votes for prediction in alone])
    np.testing.assert_array_equal(together.votes, votes)
    assert len({vote.tobytes() for vote in votes}) == 7
    np.testing.assert_allclose(together.probability, votes.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(together.uncertainty, spread(votes), atol=1e-6)
    again = load(files, sampling, "cpu").predict(image, "case", keep_votes=True)
    np.testing.assert_array_equal(again.votes, together.votes)
    turned = load(files[::-1], sampling, "cpu").predict(image, "case", keep_votes=True)
    assert not np.array_equal(turned.votes, together.votes)


def test_an_ensemble_of_the_same_model_is_no_echo(tmp_path: Path):
    """Its votes are different draws, as if one model had drawn them all."""
    file = member(tmp_path / "a.safetensors", 1)
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    votes = load([file, file], Sampling(votes=4), "cpu").predict(image, keep_votes=True).votes
    assert len({vote.tobytes() for vote in votes}) == 4


@pytest.mark.parametrize(("votes", "drawn"), [(3, 3), (4, 3), (15, 3)])
def test_models_without_random_numbers_have_one_vote_each(votes: int, drawn: int, tmp_path: Path):
    files = [member(tmp_path / f"{seed}.safetensors", seed, plain_recipe()) for seed in range(3)]
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    together = load(files, Sampling(votes=votes), "cpu").predict(image, keep_votes=True)
    alone = np.stack([load(file, None, "cpu").predict(image).probability for file in files])
    assert together.count == drawn == load(files, None, "cpu").votes
    np.testing.assert_allclose(together.votes, alone, atol=1e-6)
    np.testing.assert_allclose(together.probability, alone.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(together.uncertainty, spread(alone), atol=1e-6)


def test_models_without_random_numbers_have_a_vote_for_each_mirror_image(tmp_path: Path):
    recipe = override(plain_recipe(mirror_votes=True), {"segmenter.votes": 4})
    files = [member(tmp_path / f"{seed}.safetensors", seed, recipe) for seed in range(2)]
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    together = load(files, None, "cpu").predict(image, keep_votes=True)
    alone = [load(file, None, "cpu").predict(image, keep_votes=True).votes for file in files]
    np.testing.assert_array_equal(together.votes, np.concatenate(alone))
    assert len(together.votes) == 8


def test_a_model_without_random_numbers_weighs_as_much_as_one_with_them(rng: torch.Generator):
    """Its vote fills its share: the mean is the mean of what both say."""
    recipe = recipe_of()
    engine = engine_of(recipe, False, True)
    image = torch.randn(1, 32, 32, generator=rng).numpy()
    votes = draw_votes(engine, image, recipe, 6, engine.generator(0, "case"))
    sigmoid = 1 / (1 + np.exp(-image[0].astype(np.float64)))
    higher = [1 / (1 + np.exp(-(image[0].astype(np.float64) + v))) for v in range(3)]
    np.testing.assert_allclose(votes[:, 1], [sigmoid] * 3 + higher, atol=1e-6)
    mean = sigmoid / 2 + np.mean(higher, axis=0) / 2
    np.testing.assert_allclose(votes.mean(axis=0)[1], mean, atol=1e-6)
    assert votes_drawn(engine, recipe, 6) == 6


def test_fewer_votes_than_models_are_refused(tmp_path: Path):
    """No model is left out in silence."""
    files = [member(tmp_path / f"{seed}.safetensors", seed, plain_recipe()) for seed in range(3)]
    with pytest.raises(UserError, match=r"votes must be 3 or more.*3 models.*it is 2"):
        load(files, Sampling(votes=2), "cpu")
    predictor = load(files, None, "cpu")
    with pytest.raises(UserError, match="votes must be 3 or more"):
        predictor.predict(np.zeros((32, 32), np.float32), votes=2)


def test_what_the_engine_says_of_itself():
    recipe = recipe_of()
    engine = engine_of(recipe, True, False)
    assert engine.parameters == 2
    assert engine.about() == engine.members[0].about()
    other = replace(recipe, training=replace(recipe.training, precision="bf16"))
    mixed = EnsembleEngine([*engine.members, TorchEngine(Brightness(), other)])
    assert mixed.about()["precision"] == "float32, bf16"
    image = np.zeros((2, 1, 8, 8), np.float32)
    assert engine.sample(image, 5, engine.generator(0)).shape == (5, 2, 2, 8, 8)


def test_votes_of_other_shapes_are_refused():
    class Wide(Brightness):
        def sample(self, image: torch.Tensor, votes: int, rng: torch.Generator) -> torch.Tensor:
            return super().sample(image, votes, rng)[:, :, :1]

    recipe = recipe_of()
    engine = EnsembleEngine([TorchEngine(kind().eval(), recipe) for kind in (Brightness, Wide)])
    with pytest.raises(UserError, match="give votes of the shapes"):
        engine.sample(np.zeros((1, 1, 8, 8), np.float32), 2, engine.generator(0))


def test_other_numbers_of_steps_reach_every_member(tmp_path: Path):
    files = [member(tmp_path / f"{seed}.safetensors", seed) for seed in range(2)]
    coarse = load(files, Sampling(timesteps=0), "cpu")
    assert (coarse.votes, coarse.engine.stochastic, coarse.about()["timesteps"]) == (2, False, 0)
    plain = member(tmp_path / "plain.safetensors", 0, plain_recipe())
    with pytest.raises(UserError, match=r"plain.*timesteps belong to diffusion"):
        load([*files, plain], Sampling(timesteps=1), "cpu")
    assert load([files[0], plain], None, "cpu").votes == small_recipe().segmenter.votes
