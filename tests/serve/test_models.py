"""The models of a server, with options of sampling that a request names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdal.inference.sampling import Sampling
from cdal.serve.models import Models


@pytest.mark.parametrize(
    ("option", "value"), [("components", 1), ("decision", "expected-dice"), ("timesteps", 1)]
)
def test_an_option_that_a_recipe_holds_is_the_requests_own(
    option: str, value: object, volume_model: Path
):
    models = Models([volume_model], Sampling(votes=1), "cpu")
    base = models.sampled(models.names[0], None)
    other = models.sampled(models.names[0], replace(base.sampling, **{option: value}))
    assert other.recipe == replace(Sampling(), **{option: value}).of(base.recipe, volume_model)
    assert other.recipe != base.recipe


def test_other_options_share_the_weights(volume_model: Path):
    models = Models([volume_model], Sampling(votes=1), "cpu")
    base = models.sampled(models.names[0], None)
    other = models.sampled(models.names[0], replace(base.sampling, votes=3, seed=7))
    assert other.engine is base.engine
    assert (other.votes, other.sampling.seed) == (3, 7)
